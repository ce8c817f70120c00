/* Workers: who starts them, what wakes them, when they leave. */
#include "core/crew.h"
#include "core/leave.h"
#include "world.h"

#include <time.h>

static void
worker_is_asked_for_when_none_is_idle(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 0);
    limits_of(&world)->concurrency = 2;
    limits_of(&world)->max_batch_size = 1;
    world.batcher->synced_data.max_workers = 2;
    CHECK(push_items(&world, -1, 1, 1, 1) == AB_OK);
    CHECK_EQUAL(world.starts, 1);
    CHECK(push_items(&world, -1, 2, 3, 1) == AB_OK);
    CHECK_EQUAL(world.starts, 1); // that one is on its way
    CHECK(ab_worker_wait(world.batcher, true));
    struct ab_batch *batch = cut_batch(&world, -1);
    REQUIRE(batch != NULL);
    CHECK_EQUAL(world.starts, 2); // more is due, and a permit is free
    CHECK(ab_worker_wait(world.batcher, true));
    struct ab_batch *other = cut_batch(&world, -1);
    REQUIRE(other != NULL);
    CHECK_EQUAL(world.starts, 2); // max_workers
    settle_batch(&world, batch);
    CHECK(ab_worker_wait(world.batcher, false)); // finds what is left
    batch = cut_batch(&world, -1);
    REQUIRE(batch != NULL);
    settle_batch(&world, batch);
    settle_batch(&world, other);
    CHECK(ab_worker_wait(world.batcher, false));
    serve_all(&world, -1);
    CHECK_EQUAL(world.told_count, 4);
    world_close(&world);
}

static void
worker_is_started_before_the_window_ends(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 0);
    limits_of(&world)->window_ns = 10 * MS;
    CHECK(push_items(&world, -1, 1, 1, 1) == AB_OK);
    CHECK_EQUAL(world.starts, 1); // the timer could not start it
    advance_clock(10 * MS);
    CHECK(ab_worker_wait(world.batcher, true));
    serve_all(&world, -1);
    world_close(&world);
}

static void
failed_start_is_made_up_for_by_the_next_caller(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 0);
    CHECK(push_items(&world, -1, 1, 1, 1) == AB_OK);
    CHECK_EQUAL(world.starts, 1);
    ab_worker_failed_to_start(world.batcher);
    CHECK_EQUAL(world.batcher->synced_data.workers, 0);
    CHECK(push_items(&world, -1, 2, 1, 1) == AB_OK);
    CHECK_EQUAL(world.starts, 2);
    CHECK(ab_worker_wait(world.batcher, true));
    serve_all(&world, -1);
    CHECK_EQUAL(world.told_count, 2);
    world_close(&world);
}

static void
stop_is_over_when_the_last_worker_has_left(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK(ab_worker_wait(world.batcher, true));
    struct ab_batch *batch = cut_batch(&world, -1);
    REQUIRE(batch != NULL);
    begin_drain(&world, 0);
    CHECK(watch_idle(&world, 0, 9) == AB_OK);
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 1); // the item: its worker is still there
    CHECK(!is_readable(world.loops[0]));
    CHECK(!ab_worker_wait(world.batcher, false));
    CHECK(is_readable(world.loops[0])); // it could not wake it otherwise
    CHECK_EQUAL(read_mail(&world, 0), 1);
    CHECK_EQUAL(world.told_count, 2);
    CHECK(world.told[1].kind == AB_WATCHER);
    world_close(&world);
}

static void
stop_does_not_wait_for_a_worker_that_never_was(void)
{
    struct world world;
    struct ab_entry out;
    struct ab_todo todo = {0};
    world_open(&world, AB_HOST_WORKER, 1);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK_EQUAL(world.starts, 1);
    CHECK(ab_batcher_drop(world.batcher, &(uint64_t){0}, 1, &out, &todo) == 1);
    carry_out(&world, &todo);
    begin_drain(&world, 0);
    CHECK(watch_idle(&world, 0, 9) == AB_OK);
    CHECK_EQUAL(tell_all(&world), 0);
    ab_worker_failed_to_start(world.batcher);
    CHECK_EQUAL(tell_all(&world), 1);
    world_close(&world);
}

static void
worker_that_cuts_nothing_gives_its_hint_back(void)
{
    struct world world;
    struct ab_entry out;
    struct ab_todo todo = {0};
    world_open(&world, AB_HOST_WORKER, 0);
    CHECK(push_items(&world, -1, 1, 1, 1) == AB_OK);
    CHECK(ab_worker_wait(world.batcher, true));
    CHECK(ab_batcher_drop(world.batcher, &(uint64_t){0}, 1, &out, &todo) == 1);
    carry_out(&world, &todo);
    ab_worker_return_hint(world.batcher);
    CHECK(push_items(&world, -1, 2, 1, 1) == AB_OK);
    CHECK(ab_worker_wait(world.batcher, false)); // or it waits for ever
    struct ab_batch *batch = cut_batch(&world, -1);
    REQUIRE(batch != NULL);
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 1);
    world_close(&world);
}

/* What this thread has computed. */
static int64_t
used_ns(void)
{
    struct timespec used = {0};
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used) == 0);
    return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

static void
end_waits_for_workers_no_longer_than_it_is_told(void)
{
    const int64_t longest_ns = 50000000;
    ab_workers_count(1);
    int64_t began_ns = used_ns();
    CHECK(!ab_workers_wait_for_none(longest_ns));
    CHECK(used_ns() - began_ns < longest_ns / 2); // it slept
    ab_workers_count(-1);
    CHECK(ab_workers_wait_for_none(AB_NEVER / 2));
}

static void
items_that_only_a_worker_could_serve_are_refused_at_the_end(void)
{
    struct world world;
    const enum ab_host hosts[] = {AB_HOST_WORKER, AB_HOST_EXECUTOR};
    ab_workers_quit();
    for (size_t i = 0; i < 2; i++) {
        world_open(&world, hosts[i], 0);
        CHECK(push_items(&world, -1, 1, 1, 1) == AB_QUITTING);
        CHECK_EQUAL(world.starts, 0);
        world_close(&world);
    }
}

const struct test worker_tests[] = {
    TEST(worker_is_asked_for_when_none_is_idle),
    TEST(worker_is_started_before_the_window_ends),
    TEST(failed_start_is_made_up_for_by_the_next_caller),
    TEST(stop_is_over_when_the_last_worker_has_left),
    TEST(stop_does_not_wait_for_a_worker_that_never_was),
    TEST(worker_that_cuts_nothing_gives_its_hint_back),
    TEST(end_waits_for_workers_no_longer_than_it_is_told),
    TEST(items_that_only_a_worker_could_serve_are_refused_at_the_end),
    TESTS_END,
};
