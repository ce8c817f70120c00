/* When a batch is due, and what is in it: one batcher, played by hand. */
#include "core/batcher.h"
#include "core/intake.h"
#include "core/leave.h"
#include "world.h"

/* The loop was told that a batch is due there. */
static bool
is_hinted(struct world *world, int loop)
{
    bool starts_run = world->runs > 0;
    world->runs = 0;
    return read_mail(world, loop) > 0 || starts_run;
}

static void
window_runs_from_the_oldest_item_and_never_restarts(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = 10 * MS;
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    ab_clock_advance(9 * MS);
    CHECK(push_items(&world, 0, 2, 1, 1) == AB_OK);
    CHECK(cut_batch(&world, 0) == NULL);
    ab_clock_advance(1 * MS);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK_EQUAL(batch->length, 2);
    CHECK(batch->reason == AB_REASON_WINDOW);
    // What comes while it runs has a window of its own.
    CHECK(push_items(&world, 0, 3, 1, 1) == AB_OK);
    settle_batch(&world, batch);
    CHECK(cut_batch(&world, 0) == NULL);
    ab_clock_advance(10 * MS);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 3);
    world_close(&world);
}

static void
timer_hints_the_loop_when_the_window_ends(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = 200000; // below a millisecond
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK(!is_readable(world.loops[0]));
    CHECK_EQUAL(world.retry_ns, 0);
    advance_clock(200000);
    CHECK(comes_true(has_mail, world.loops[0]));
    CHECK(is_hinted(&world, 0));
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 1);
    world_close(&world);
}

static void
window_left_by_a_cancelled_head_is_that_of_the_next(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = 10 * MS;
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    ab_clock_advance(4 * MS);
    CHECK(push_items(&world, 0, 2, 1, 1) == AB_OK);
    struct ab_entry out;
    struct ab_todo todo = {0};
    CHECK(ab_batcher_drop(world.batcher, &(uint64_t){0}, 1, &out, &todo) == 1);
    CHECK(out.waiter == thing(1));
    carry_out(&world, &todo);
    advance_clock(6 * MS); // the timer looks, and finds it too early
    CHECK(cut_batch(&world, 0) == NULL);
    advance_clock(4 * MS);
    CHECK(comes_true(has_mail, world.loops[0])); // it was armed anew
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 1);
    CHECK_EQUAL(world.batcher->synced_data.meter.cancelled, 1);
    world_close(&world);
}

static void
batch_grows_until_it_is_cut(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    CHECK(push_items(&world, 0, 1, 3, 1) == AB_OK);
    CHECK(push_items(&world, 0, 4, 3, 1) == AB_OK);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK_EQUAL(batch->length, 6);
    CHECK(batch->reason == AB_REASON_IDLE);
    CHECK(push_items(&world, 0, 7, 5, 1) == AB_OK);
    CHECK(cut_batch(&world, 0) == NULL); // no permit: it goes on growing
    CHECK(push_items(&world, 0, 12, 5, 1) == AB_OK);
    settle_batch(&world, batch);
    batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK_EQUAL(batch->length, 10);
    settle_batch(&world, batch);
    serve_all(&world, 0);
    world_close(&world);
}

static void
full_queue_goes_before_its_window(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = SECOND;
    limits_of(&world)->max_batch_size = 4;
    CHECK(push_items(&world, 0, 1, 3, 1) == AB_OK);
    CHECK(!is_hinted(&world, 0));
    CHECK(push_items(&world, 0, 4, 2, 1) == AB_OK);
    CHECK(is_hinted(&world, 0));
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK_EQUAL(batch->length, 4);
    CHECK(batch->reason == AB_REASON_FULL);
    settle_batch(&world, batch);
    CHECK(cut_batch(&world, 0) == NULL); // the fifth waits for company
    ab_clock_advance(SECOND);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 5);
    world_close(&world);
}

static void
batch_costs_no_more_than_its_budget(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = SECOND;
    limits_of(&world)->max_batch_cost = 10;
    CHECK(push_items(&world, 0, 1, 2, 4) == AB_OK);
    CHECK(cut_batch(&world, 0) == NULL);
    CHECK(push_items(&world, 0, 3, 1, 40) == AB_OK);
    CHECK(push_items(&world, 0, 4, 1, 0) == AB_OK);
    const size_t lengths[] = {2, 1};
    for (size_t i = 0; i < 2; i++) {
        struct ab_batch *batch = cut_batch(&world, 0);
        REQUIRE(batch != NULL);
        CHECK_EQUAL(batch->length, lengths[i]); // the dear one goes alone
        CHECK(batch->reason == AB_REASON_COST);
        settle_batch(&world, batch);
    }
    CHECK(cut_batch(&world, 0) == NULL);
    flush_queue(&world, 0);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 4);
    CHECK_EQUAL(world.batcher->synced_data.meter.total_cost.low, 48);
    world_close(&world);
}

static void
flush_sends_what_is_queued_and_nothing_later(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = SECOND;
    limits_of(&world)->max_batch_size = 3;
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    flush_queue(&world, 0);
    CHECK(is_hinted(&world, 0));
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK(batch->reason == AB_REASON_FLUSH);
    CHECK(push_items(&world, 0, 3, 2, 1) == AB_OK);
    settle_batch(&world, batch);
    CHECK(cut_batch(&world, 0) == NULL);
    flush_queue(&world, 0);
    serve_all(&world, 0);
    CHECK_EQUAL(world.batcher->synced_data.meter.reasons[AB_REASON_FLUSH], 2);
    world_close(&world);
}

static void
drain_sends_all_and_takes_no_more(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = SECOND;
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    begin_drain(&world, 0);
    CHECK(is_hinted(&world, 0));
    CHECK(push_items(&world, 0, 3, 1, 1) == AB_CLOSED);
    uint64_t pair;
    CHECK(submit_item(&world, 0, 3, 1, &pair) == AB_CLOSED);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK(batch->reason == AB_REASON_DRAIN);
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 2);
    world_close(&world);
}

static void
permits_bound_the_batches_that_run(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->concurrency = 3;
    limits_of(&world)->max_batch_size = 2;
    CHECK(push_items(&world, 0, 1, 20, 1) == AB_OK);
    struct ab_batch *batches[3];
    for (size_t i = 0; i < 3; i++) {
        batches[i] = cut_batch(&world, 0);
        REQUIRE(batches[i] != NULL);
        CHECK_EQUAL(world.batcher->synced_data.running, i + 1);
    }
    CHECK(cut_batch(&world, 0) == NULL);
    settle_batch(&world, batches[1]);
    batches[1] = cut_batch(&world, 0);
    REQUIRE(batches[1] != NULL);
    CHECK(batches[1]->entries[0].waiter == thing(7));
    limits_of(&world)->concurrency = 1; // lowered while they run
    settle_batch(&world, batches[0]);
    settle_batch(&world, batches[2]);
    CHECK(cut_batch(&world, 0) == NULL);
    settle_batch(&world, batches[1]);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 20);
    world_close(&world);
}

static void
refused_push_changes_nothing(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = SECOND;
    limits_of(&world)->max_queue_size = 3;
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    CHECK(push_items(&world, 0, 3, 2, 1) == AB_FULL); // all or none
    CHECK_EQUAL(world.batcher->synced_data.queue.length, 2);
    CHECK_EQUAL(world.batcher->synced_data.outstanding, 2);
    CHECK(push_items(&world, 0, 3, 1, 1) == AB_OK);
    CHECK_EQUAL(world.batcher->synced_data.meter.submitted, 3);
    struct ab_todo todo = {0};
    struct ab_entry stray = {.waiter = thing(9), .value = thing(9)};
    CHECK(ab_batcher_push(world.batcher, &stray, &stray, 1, &todo) ==
          AB_NO_LINK); // a loop that nobody introduced
    flush_queue(&world, 0);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 3);
    world_close(&world);
}

static void
caller_without_a_loop_is_refused_where_no_open_loop_hosts(void)
{
    struct world world;
    uint64_t pair;
    world_open(&world, AB_HOST_LOOP, 2);
    CHECK(!ab_batcher_has_host(world.batcher));
    CHECK(push_items(&world, -1, 1, 1, 1) == AB_NO_HOST);
    CHECK(submit_item(&world, -1, 1, 1, &pair) == AB_NO_HOST);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK(ab_batcher_has_host(world.batcher));
    CHECK(push_items(&world, -1, 2, 1, 1) == AB_OK);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 2);
    close_loop(&world, 0);
    CHECK(!ab_batcher_has_host(world.batcher));
    CHECK(push_items(&world, -1, 3, 1, 1) == AB_NO_HOST);
    CHECK(push_items(&world, 1, 3, 1, 1) == AB_OK);
    CHECK(push_items(&world, -1, 4, 1, 1) == AB_OK);
    serve_all(&world, 1);
    CHECK_EQUAL(world.told_count, 4);
    world.batcher->synced_data.host = AB_HOST_WORKER;
    close_loop(&world, 1);
    CHECK(ab_batcher_has_host(world.batcher)); // it needs no loop
    world_close(&world);
}

static void
nothing_is_due_before_the_host_is_known(void)
{
    struct world world;
    world_open(&world, AB_HOST_UNKNOWN, 1);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK(!is_hinted(&world, 0));
    world.batcher->synced_data.host = AB_HOST_LOOP;
    look(&world, 0);
    CHECK(is_hinted(&world, 0));
    serve_all(&world, 0);
    world_close(&world);
}

static void
object_is_held_while_anybody_waits(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 2);
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    CHECK_EQUAL(world.refs, 1); // one for each link that waits
    CHECK(push_items(&world, 1, 3, 1, 1) == AB_OK);
    CHECK(push_items(&world, -1, 4, 1, 1) == AB_OK);
    CHECK_EQUAL(world.refs, 3);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK_EQUAL(world.refs, 3);
    settle_batch(&world, batch);
    CHECK_EQUAL(world.refs, 3); // settled is not told
    CHECK_EQUAL(tell_all(&world), 4);
    CHECK_EQUAL(world.refs, 0);
    world_close(&world);
}

static void
callers_of_an_unknown_loop_are_sent_to_link_it(void)
{
    struct world world;
    struct ab_todo todo = {0};
    struct ab_entry pair[2] = {{.waiter = thing(1)}, {.waiter = thing(2)}};
    uint64_t number;
    world_open(&world, AB_HOST_LOOP, 1);
    void *loop = loop_of(&world, 0);
    CHECK(ab_batcher_push(world.batcher, loop, pair, 1, &todo) == AB_NO_LINK);
    CHECK(ab_batcher_wait_for_space(world.batcher, loop, pair, &number,
                                    &todo) == AB_NO_LINK);
    CHECK(ab_batcher_watch(world.batcher, loop, pair, &todo) == AB_NO_LINK);
    CHECK_EQUAL(todo.refs, 0);
    ab_batcher_count_rejected(world.batcher, 3);
    CHECK_EQUAL(world.batcher->synced_data.meter.rejected, 3);
    world_close(&world);
}

const struct test batcher_tests[] = {
    TEST(window_runs_from_the_oldest_item_and_never_restarts),
    TEST(timer_hints_the_loop_when_the_window_ends),
    TEST(window_left_by_a_cancelled_head_is_that_of_the_next),
    TEST(batch_grows_until_it_is_cut),
    TEST(full_queue_goes_before_its_window),
    TEST(batch_costs_no_more_than_its_budget),
    TEST(flush_sends_what_is_queued_and_nothing_later),
    TEST(drain_sends_all_and_takes_no_more),
    TEST(permits_bound_the_batches_that_run),
    TEST(refused_push_changes_nothing),
    TEST(caller_without_a_loop_is_refused_where_no_open_loop_hosts),
    TEST(nothing_is_due_before_the_host_is_known),
    TEST(object_is_held_while_anybody_waits),
    TEST(callers_of_an_unknown_loop_are_sent_to_link_it),
    TESTS_END,
};
