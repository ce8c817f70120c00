/* A grant is only a hint: loops that stop, close or do not answer. */
#include "core/intake.h"
#include "core/leave.h"
#include "world.h"

/* A batcher of two loops: the first is its home, both have waiting items. */
static void
open_two(struct world *world)
{
    world_open(world, AB_HOST_LOOP, 2);
    limits_of(world)->window_ns = 10 * MS;
    CHECK(push_items(world, 0, 1, 1, 1) == AB_OK);
    CHECK(push_items(world, 1, 2, 1, 1) == AB_OK);
    ab_clock_advance(10 * MS);
}

static void
one_loop_is_hinted_at_a_time(void)
{
    struct world world;
    open_two(&world);
    look(&world, 1);
    CHECK(is_readable(world.loops[0]));
    CHECK(!is_readable(world.loops[1]));
    CHECK(world.is_away); // the host is another loop than the caller's
    CHECK_EQUAL(world.wakes, 0);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 2);
    world_close(&world);
}

static void
own_loop_starts_a_run_and_gets_no_letter(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK(!is_readable(world.loops[0]));
    CHECK_EQUAL(world.runs, 1);
    CHECK_EQUAL(world.wakes, 0);
    CHECK(!world.is_away);
    CHECK(push_items(&world, 0, 2, 1, 1) == AB_OK);
    CHECK_EQUAL(world.runs, 1); // once is enough
    CHECK_EQUAL(read_mail(&world, 0), 0);
    serve_all(&world, 0);
    world_close(&world);
}

static void
own_loop_of_an_executor_is_woken_without_the_fd(void)
{
    struct world world;
    world_open(&world, AB_HOST_EXECUTOR, 1);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK(!is_readable(world.loops[0]));
    CHECK_EQUAL(world.wakes, 1);
    CHECK_EQUAL(world.runs, 0);
    CHECK(push_items(&world, 0, 2, 1, 1) == AB_OK);
    CHECK_EQUAL(world.wakes, 1); // once is enough
    CHECK_EQUAL(read_mail(&world, 0), 1);
    serve_all(&world, 0);
    world_close(&world);
}

static void
hint_lost_with_a_closed_loop_is_given_again(void)
{
    struct world world;
    open_two(&world);
    look(&world, 1);
    CHECK(is_readable(world.loops[0]));
    close_loop(&world, 0);
    CHECK(is_readable(world.loops[1]));
    CHECK_EQUAL(world.told_count, 1); // whoever waited there was let go
    CHECK_EQUAL(world.batcher->synced_data.meter.cancelled, 1);
    serve_all(&world, 1);
    CHECK_EQUAL(world.told_count, 2);
    CHECK(world.told[1].waiter == thing(2) && !world.told[1].is_failed);
    world_close(&world);
}

static void
unanswered_hint_is_repeated_to_the_others_ever_more_rarely(void)
{
    struct world world;
    open_two(&world);
    look(&world, 0); // the loop of the caller itself, which then stops
    CHECK_EQUAL(world.runs, 1);
    CHECK(!is_readable(world.loops[1]));
    advance_clock(AB_HINT_WAIT_NS - 1);
    look(&world, -1);
    CHECK(!is_readable(world.loops[1]));
    advance_clock(1);
    CHECK(comes_true(has_mail, world.loops[1]));
    int64_t wait_ns = AB_HINT_WAIT_NS;
    for (int i = 0; i < 4; i++) {
        CHECK_EQUAL(read_mail(&world, 1), 1); // read, and nothing done
        wait_ns *= 2;
        advance_clock(wait_ns - 1);
        look(&world, -1);
        CHECK(!is_readable(world.loops[1]));
        advance_clock(1);
        CHECK(comes_true(has_mail, world.loops[1]));
    }
    serve_all(&world, 1); // this loop answers, and becomes the home
    CHECK_EQUAL(world.told_count, 2);
    CHECK(push_items(&world, 1, 3, 1, 1) == AB_OK);
    advance_clock(10 * MS);
    CHECK(comes_true(has_mail, world.loops[1]));
    serve_all(&world, 1);
    world_close(&world);
}

static void
home_that_waits_for_nothing_is_not_waited_for(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 2);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    serve_all(&world, 0);
    CHECK(push_items(&world, 1, 2, 1, 1) == AB_OK); // hints the old home
    CHECK(is_readable(world.loops[0]));
    advance_clock(AB_HINT_WAIT_NS);
    CHECK(comes_true(has_mail, world.loops[1]));
    serve_all(&world, 1);
    CHECK_EQUAL(world.told_count, 2);
    world_close(&world);
}

/* The home closes while nobody waits there, and a hint lies in its mailbox. */
static void
lose_idle_home(struct world *world, enum ab_host host)
{
    world_open(world, host, 3);
    world->batcher->synced_data.max_workers = 0;
    CHECK(push_items(world, 0, 1, 1, 1) == AB_OK);
    serve_all(world, 0);
    CHECK(push_items(world, 1, 2, 1, 1) == AB_OK);
    CHECK(world->batcher->synced_data.hint == AB_HINT_GIVEN);
    close_loop(world, 0);
    CHECK(link_of(world, 2) != NULL); // tidies the dead links away
}

static void
idle_home_that_closes_takes_no_hint_with_it(void)
{
    struct world world;
    lose_idle_home(&world, AB_HOST_LOOP);
    look(&world, 1);
    serve_all(&world, 1);
    CHECK_EQUAL(world.told_count, 2);
    world_close(&world);
}

static void
idle_home_that_closes_leaves_no_timer_to_stumble(void)
{
    struct world world;
    lose_idle_home(&world, AB_HOST_LOOP);
    CHECK(is_readable(world.loops[1])); // the hint went on
    advance_clock(AB_HINT_WAIT_NS);
    serve_all(&world, 1);
    CHECK_EQUAL(world.told_count, 2);
    world_close(&world);
}

static void
workers_take_over_when_the_last_loop_has_closed(void)
{
    struct world world;
    world_open(&world, AB_HOST_EXECUTOR, 1);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK_EQUAL(world.starts, 0); // the loop submits
    CHECK(push_items(&world, -1, 2, 1, 1) == AB_OK);
    close_loop(&world, 0);
    CHECK_EQUAL(world.starts, 1);
    CHECK(world.batcher->synced_data.hint == AB_HINT_GIVEN);
    serve_all(&world, -1);
    CHECK_EQUAL(world.told_count, 2);
    world_close(&world);
}

static void
batch_hosted_by_a_closed_loop_gives_its_permit_back(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 2);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK(push_items(&world, 1, 2, 1, 1) == AB_OK);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL && batch->length == 2);
    CHECK(push_items(&world, 1, 3, 1, 1) == AB_OK);
    close_loop(&world, 0);
    ab_batch_let_go(batch); // the task that ran it went with the loop
    CHECK_EQUAL(world.batcher->synced_data.running, 0);
    CHECK(is_readable(world.loops[1]));
    serve_all(&world, 1);
    CHECK_EQUAL(world.told_count, 3);
    world_close(&world);
}

static void
moved_home_gets_the_hint(void)
{
    struct world world;
    open_two(&world);
    look(&world, 1);
    CHECK(is_readable(world.loops[0])); // which does not run, say
    ab_batcher_move_home(world.batcher, loop_of(&world, 1));
    look(&world, 1);
    CHECK_EQUAL(world.runs, 1);
    serve_all(&world, 1);
    world_close(&world);
}

static void
loop_without_fd_keeps_the_time_itself(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 0);
    limits_of(&world)->window_ns = 10 * MS;
    CHECK(ab_mailbox_new(&world.loops[0], false) == AB_OK);
    atomic_store(&world.loops[0]->loop, world.loops[0]);
    int64_t due_ns = ab_clock_now_ns() + 10 * MS;
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK_EQUAL(world.retry_ns, due_ns);
    world.retry_ns = 0;
    CHECK(push_items(&world, 0, 2, 1, 1) == AB_OK);
    CHECK_EQUAL(world.retry_ns, 0); // once is enough
    ab_clock_advance(10 * MS);
    look(&world, 0);
    CHECK_EQUAL(world.runs, 1);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 2);
    CHECK(push_items(&world, 0, 3, 1, 1) == AB_OK);
    CHECK_EQUAL(world.retry_ns, due_ns + 10 * MS); // and for the next window
    ab_clock_advance(10 * MS);
    serve_all(&world, 0);
    world_close(&world);
}

static void
time_kept_by_a_loop_that_closed_is_kept_by_another(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 0);
    limits_of(&world)->window_ns = 10 * MS;
    for (int i = 0; i < 2; i++) {
        CHECK(ab_mailbox_new(&world.loops[i], false) == AB_OK);
        atomic_store(&world.loops[i]->loop, world.loops[i]);
        CHECK(push_items(&world, i, 1 + (size_t)i, 1, 1) == AB_OK);
    }
    close_loop(&world, 0);
    // Nobody calls: the other loop must be woken, by hand or by a hint.
    CHECK(world.wakes > 0 || world.batcher->synced_data.armed_ns != AB_NEVER);
    ab_clock_advance(10 * MS);
    serve_all(&world, 1);
    world_close(&world);
}

static void
timer_of_a_loop_that_fires_early_is_set_again(void)
{
    // Loops round their clock: a timer may come a little before its time.
    struct world world;
    world_open(&world, AB_HOST_LOOP, 0);
    limits_of(&world)->window_ns = 10 * MS;
    CHECK(ab_mailbox_new(&world.loops[0], false) == AB_OK);
    atomic_store(&world.loops[0]->loop, world.loops[0]);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    int64_t due_ns = world.retry_ns;
    world.retry_ns = 0;
    ab_clock_advance(10 * MS - 1);
    look(&world, 0);
    CHECK_EQUAL(world.retry_ns, due_ns);
    ab_clock_advance(1);
    look(&world, 0);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 1);
    world_close(&world);
}

static void
link_of_a_closing_loop_is_not_taken_for_another(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 2);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    struct ab_batch *batch = cut_batch(&world, 1), *rest;
    REQUIRE(batch != NULL);
    // The first loop closes; before it has looked after its own items,
    // somebody else tells them, and a third loop comes along.
    struct ab_mailbox *mailbox = world.loops[0];
    world.loops[0] = NULL;
    ab_mailbox_close(mailbox);
    struct ab_link *link = ab_mailbox_pop_kept(mailbox);
    REQUIRE(link != NULL);
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 1);
    world.loops[2] = open_loop();
    CHECK(push_items(&world, 2, 2, 1, 1) == AB_OK);
    CHECK(link_of(&world, 2) != link);
    CHECK(ab_batch_collect(world.batcher, link, AB_COLLECT_QUEUE, &rest) ==
          AB_OK);
    CHECK(rest == NULL);
    struct ab_todo todo = {0};
    ab_batcher_lost_loop(world.batcher, link, &todo);
    carry_out(&world, &todo);
    ab_batcher_release(world.batcher);
    ab_mailbox_release(mailbox);
    serve_all(&world, 2);
    CHECK_EQUAL(world.told_count, 2);
    world_close(&world);
}

static void
home_that_closes_idle_leaves_the_executor_to_workers(void)
{
    struct world world;
    world_open(&world, AB_HOST_EXECUTOR, 1);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK(push_items(&world, -1, 2, 1, 1) == AB_OK);
    serve_all(&world, 0);
    close_loop(&world, 0); // nobody waits there any more
    CHECK(push_items(&world, -1, 3, 1, 1) == AB_OK);
    CHECK_EQUAL(world.starts, 1);
    serve_all(&world, -1);
    CHECK_EQUAL(world.told_count, 3);
    world_close(&world);
}

static void
home_that_closes_idle_refuses_callers_without_a_loop(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    serve_all(&world, 0);
    CHECK(push_items(&world, -1, 2, 1, 1) == AB_OK); // from another thread
    close_loop(&world, 0);
    (void)tell_all(&world);
    CHECK_EQUAL(world.told_count, 2);
    CHECK(world.told[1].waiter == thing(2) && world.told[1].is_failed);
    world_close(&world);
}

/* Between the end of a loop and its notice others may look for dead links. */
static void
home_that_has_yet_to_give_notice_is_not_forgotten(void)
{
    struct world world;
    world_open(&world, AB_HOST_EXECUTOR, 2);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK(push_items(&world, -1, 2, 1, 1) == AB_OK);
    serve_all(&world, 0);
    struct ab_mailbox *mailbox = world.loops[0];
    world.loops[0] = NULL;
    ab_mailbox_close(mailbox);
    CHECK(push_items(&world, -1, 3, 1, 1) == AB_OK); // the home has the hint
    CHECK(link_of(&world, 1) != NULL); // tidies the dead links away
    struct ab_link *home = ab_batcher_pop_home(world.batcher, mailbox);
    REQUIRE(home != NULL);
    struct ab_todo todo = {0};
    ab_batcher_lost_loop(world.batcher, home, &todo);
    carry_out(&world, &todo);
    ab_mailbox_release(mailbox);
    CHECK(world.batcher->synced_data.hint == AB_HINT_GIVEN);
    serve_all(&world, -1);
    CHECK_EQUAL(world.told_count, 3);
    world_close(&world);
}

const struct test hint_tests[] = {
    TEST(home_that_has_yet_to_give_notice_is_not_forgotten),
    TEST(one_loop_is_hinted_at_a_time),
    TEST(own_loop_starts_a_run_and_gets_no_letter),
    TEST(own_loop_of_an_executor_is_woken_without_the_fd),
    TEST(hint_lost_with_a_closed_loop_is_given_again),
    TEST(unanswered_hint_is_repeated_to_the_others_ever_more_rarely),
    TEST(home_that_waits_for_nothing_is_not_waited_for),
    TEST(idle_home_that_closes_takes_no_hint_with_it),
    TEST(idle_home_that_closes_leaves_no_timer_to_stumble),
    TEST(workers_take_over_when_the_last_loop_has_closed),
    TEST(batch_hosted_by_a_closed_loop_gives_its_permit_back),
    TEST(moved_home_gets_the_hint),
    TEST(loop_without_fd_keeps_the_time_itself),
    TEST(timer_of_a_loop_that_fires_early_is_set_again),
    TEST(link_of_a_closing_loop_is_not_taken_for_another),
    TEST(time_kept_by_a_loop_that_closed_is_kept_by_another),
    TEST(home_that_closes_idle_leaves_the_executor_to_workers),
    TEST(home_that_closes_idle_refuses_callers_without_a_loop),
    TESTS_END,
};
