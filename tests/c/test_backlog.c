/* Callers that wait for space in the queue. */
#include "core/intake.h"
#include "core/leave.h"
#include "world.h"

/* A queue of two places, both taken, and a window that does not end. */
static void
open_full(struct world *world)
{
    world_open(world, AB_HOST_LOOP, 2);
    limits_of(world)->window_ns = 1000 * SECOND;
    limits_of(world)->max_queue_size = 2;
    CHECK(push_items(world, 0, 1, 2, 1) == AB_OK);
    CHECK(push_items(world, 0, 3, 1, 1) == AB_FULL);
}

static size_t
told_to(const struct world *world, size_t number)
{
    size_t times = 0;
    for (size_t i = 0; i < world->told_count; i++) {
        times += world->told[i].waiter == thing(number);
    }
    return times;
}

static bool
withdraw(struct world *world, uint64_t pair, struct ab_entry out[2])
{
    struct ab_todo todo = {0};
    bool was_there = ab_batcher_withdraw(world->batcher, pair, out, &todo);
    carry_out(world, &todo);
    return was_there;
}

static bool
drop(struct world *world, uint64_t number)
{
    struct ab_todo todo = {0};
    struct ab_entry out;
    bool was_there =
        ab_batcher_drop(world->batcher, &number, 1, &out, &todo) == 1;
    carry_out(world, &todo);
    return was_there;
}

static void
callers_for_space_are_admitted_first_in_first_out(void)
{
    struct world world;
    uint64_t pairs[4];
    open_full(&world);
    for (size_t i = 0; i < 4; i++) {
        CHECK(submit_item(&world, (int)(i % 2), 11 + i, 1, &pairs[i]) ==
              AB_OK);
        CHECK(i == 0 || pairs[i] > pairs[i - 1]);
    }
    CHECK_EQUAL(tell_all(&world), 0);
    CHECK(push_items(&world, 0, 3, 1, 1) == AB_FULL); // nobody overtakes
    flush_queue(&world, 0);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    // The cut made room, and the batch was still open.
    CHECK_EQUAL(batch->length, 6);
    for (size_t i = 0; i < 4; i++) {
        CHECK(batch->entries[2 + i].waiter == thing(11 + i));
    }
    CHECK_EQUAL(tell_all(&world), 4);
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 6);
    CHECK_EQUAL(world.batcher->synced_data.meter.submitted, 6);
    CHECK_EQUAL(world.batcher->synced_data.meter.completed, 6);
    world_close(&world);
}

static void
caller_is_admitted_at_once_where_there_is_room(void)
{
    struct world world;
    uint64_t pair;
    world_open(&world, AB_HOST_LOOP, 1);
    CHECK(submit_item(&world, 0, 1, 1, &pair) == AB_OK);
    CHECK(tell_all(&world) == 1);
    CHECK(world.told[0].kind == AB_SPACE);
    CHECK(world.told[0].waiter == thing(100001));
    serve_all(&world, 0);
    CHECK_EQUAL(told_to(&world, 1), 1);
    world_close(&world);
}

static void
withdrawn_caller_hands_its_place_on(void)
{
    struct world world;
    struct ab_entry out[2];
    uint64_t dear, cheap;
    open_full(&world);
    limits_of(&world)->max_queue_size = 10;
    limits_of(&world)->max_queue_cost = 10;
    CHECK(submit_item(&world, 0, 11, 9, &dear) == AB_OK);
    CHECK(submit_item(&world, 1, 12, 8, &cheap) == AB_OK);
    CHECK_EQUAL(tell_all(&world), 0); // it would fit, but is second
    CHECK(withdraw(&world, dear, out));
    CHECK(out[0].waiter == thing(11));
    CHECK(out[1].waiter == thing(100011));
    CHECK(!withdraw(&world, dear, out));
    CHECK_EQUAL(tell_all(&world), 1);
    CHECK_EQUAL(told_to(&world, 100012), 1);
    CHECK(!withdraw(&world, cheap, out)); // it is in the queue by now
    flush_queue(&world, 0);
    serve_all(&world, 0);
    CHECK_EQUAL(told_to(&world, 12), 1);
    world_close(&world);
}

static void
batch_made_full_by_a_withdrawal_goes_at_once(void)
{
    struct world world;
    struct ab_entry out[2];
    uint64_t dear, cheap;
    open_full(&world);
    limits_of(&world)->max_batch_size = 3;
    limits_of(&world)->max_queue_size = 10;
    limits_of(&world)->max_queue_cost = 10;
    CHECK(submit_item(&world, 0, 11, 9, &dear) == AB_OK);
    CHECK(submit_item(&world, 0, 12, 8, &cheap) == AB_OK);
    CHECK(world.batcher->synced_data.hint == AB_HINT_NONE);
    CHECK(withdraw(&world, dear, out));
    CHECK(world.batcher->synced_data.hint != AB_HINT_NONE);
    serve_all(&world, 0);
    CHECK_EQUAL(told_to(&world, 12), 1);
    world_close(&world);
}

static void
batch_made_full_by_a_cancellation_goes_at_once(void)
{
    struct world world;
    uint64_t dear;
    open_full(&world);
    limits_of(&world)->max_batch_cost = 9;
    CHECK(submit_item(&world, 0, 11, 8, &dear) == AB_OK);
    CHECK(world.batcher->synced_data.hint == AB_HINT_NONE);
    CHECK(drop(&world, 0)); // room for the dear one
    CHECK(world.batcher->synced_data.hint != AB_HINT_NONE);
    serve_all(&world, 0);
    CHECK_EQUAL(told_to(&world, 11), 1);
    world_close(&world);
}

static void
cancelled_item_makes_room(void)
{
    struct world world;
    uint64_t pair;
    open_full(&world);
    CHECK(submit_item(&world, 1, 11, 1, &pair) == AB_OK);
    CHECK(drop(&world, 0));
    CHECK(!drop(&world, 0));
    CHECK_EQUAL(tell_all(&world), 1);
    CHECK_EQUAL(world.batcher->synced_data.queue.length, 2);
    flush_queue(&world, 0);
    serve_all(&world, 0);
    CHECK_EQUAL(told_to(&world, 1), 0);
    CHECK_EQUAL(told_to(&world, 11), 1);
    world_close(&world);
}

static void
collecting_for_one_loop_leaves_the_backlog_of_the_others(void)
{
    struct world world;
    uint64_t first, second, third;
    open_full(&world);
    CHECK(submit_item(&world, 1, 11, 1, &first) == AB_OK);
    CHECK(submit_item(&world, 0, 12, 1, &second) == AB_OK);
    CHECK(submit_item(&world, 1, 13, 1, &third) == AB_OK);
    close_loop(&world, 0); // its two items and its caller are let go
    CHECK_EQUAL(told_to(&world, 12), 1); // silently
    CHECK_EQUAL(told_to(&world, 100012), 1);
    (void)tell_all(&world);
    CHECK_EQUAL(told_to(&world, 100011), 1);
    CHECK_EQUAL(told_to(&world, 100013), 1);
    flush_queue(&world, 1);
    serve_all(&world, 1);
    CHECK_EQUAL(told_to(&world, 11), 1);
    CHECK_EQUAL(told_to(&world, 13), 1);
    world_close(&world);
}

static void
drain_admits_those_who_waited_before_it(void)
{
    struct world world;
    uint64_t pair;
    open_full(&world);
    for (size_t i = 0; i < 5; i++) {
        CHECK(submit_item(&world, 0, 11 + i, 1, &pair) == AB_OK);
    }
    CHECK(watch_idle(&world, 0, 90) == AB_OK);
    limits_of(&world)->max_batch_size = 1;
    begin_drain(&world, 0);
    serve_all(&world, 0);
    for (size_t i = 0; i < 5; i++) {
        CHECK_EQUAL(told_to(&world, 11 + i), 1);
    }
    CHECK(world.told[world.told_count - 1].kind == AB_WATCHER);
    world_close(&world);
}

static void
raised_limit_admits_with_the_next_look(void)
{
    struct world world;
    uint64_t pair;
    open_full(&world);
    CHECK(submit_item(&world, 0, 11, 1, &pair) == AB_OK);
    limits_of(&world)->max_queue_size = 3;
    look(&world, 0);
    CHECK_EQUAL(tell_all(&world), 1);
    flush_queue(&world, 0);
    serve_all(&world, 0);
    world_close(&world);
}

static void
backlog_is_seen_while_somebody_waits_in_it(void)
{
    struct world world;
    struct ab_entry out[2];
    uint64_t pair;
    open_full(&world);
    CHECK(!ab_batcher_has_backlog(world.batcher));
    CHECK(submit_item(&world, 0, 11, 1, &pair) == AB_OK);
    CHECK(ab_batcher_has_backlog(world.batcher));
    CHECK(withdraw(&world, pair, out));
    CHECK(!ab_batcher_has_backlog(world.batcher));
    flush_queue(&world, 0);
    serve_all(&world, 0);
    world_close(&world);
}

static void
loops_with_waiters_are_alerted_but_not_the_own(void)
{
    struct world world;
    open_full(&world); // both wait on the first loop
    flush_queue(&world, 0);
    serve_all(&world, 0);
    CHECK(push_items(&world, 0, 3, 1, 1) == AB_OK);
    CHECK(push_items(&world, -1, 4, 1, 1) == AB_OK);
    ab_batcher_alert_loops(world.batcher, loop_of(&world, 0));
    CHECK(!is_readable(world.loops[0]));
    ab_batcher_alert_loops(world.batcher, loop_of(&world, 1));
    CHECK(is_readable(world.loops[0]));
    CHECK(!is_readable(world.loops[1])); // nobody waits there
    CHECK_EQUAL(read_mail(&world, 0), 1);
    flush_queue(&world, 0);
    serve_all(&world, 0);
    world_close(&world);
}

const struct test backlog_tests[] = {
    TEST(callers_for_space_are_admitted_first_in_first_out),
    TEST(caller_is_admitted_at_once_where_there_is_room),
    TEST(withdrawn_caller_hands_its_place_on),
    TEST(batch_made_full_by_a_withdrawal_goes_at_once),
    TEST(batch_made_full_by_a_cancellation_goes_at_once),
    TEST(cancelled_item_makes_room),
    TEST(collecting_for_one_loop_leaves_the_backlog_of_the_others),
    TEST(drain_admits_those_who_waited_before_it),
    TEST(raised_limit_admits_with_the_next_look),
    TEST(backlog_is_seen_while_somebody_waits_in_it),
    TEST(loops_with_waiters_are_alerted_but_not_the_own),
    TESTS_END,
};
