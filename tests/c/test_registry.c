/* All batchers of the process, walked and forked. */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "core/registry.h"

#include "world.h"

#include <sys/wait.h>
#include <unistd.h>

static void
walk_meets_every_batcher_once(void)
{
    struct ab_batcher *batchers[3], *walker = NULL;
    for (int i = 0; i < 3; i++) {
        REQUIRE(ab_batcher_new(&batchers[i], NULL) == AB_OK);
    }
    int met[3] = {0};
    while ((walker = ab_registry_next(walker)) != NULL) {
        for (int i = 0; i < 3; i++) {
            met[i] += walker == batchers[i];
        }
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(met[i], 1);
        CHECK_EQUAL(batchers[i]->refs.value, 1);
        ab_batcher_orphan(batchers[i]);
    }
    CHECK(ab_registry_next(NULL) == NULL);
}

static void
walk_survives_batchers_that_leave_meanwhile(void)
{
    struct ab_batcher *old, *middle, *young;
    REQUIRE(ab_batcher_new(&old, NULL) == AB_OK);
    REQUIRE(ab_batcher_new(&middle, NULL) == AB_OK);
    REQUIRE(ab_batcher_new(&young, NULL) == AB_OK);
    struct ab_batcher *walker = ab_registry_next(NULL);
    CHECK(walker == young || walker == old);
    bool is_forward = walker == young;
    ab_batcher_orphan(walker); // the walk alone holds it now
    ab_batcher_orphan(middle); // and this one is freed
    walker = ab_registry_next(walker);
    CHECK(walker == (is_forward ? old : young));
    while (walker != NULL) {
        walker = ab_registry_next(walker);
    }
    ab_batcher_orphan(is_forward ? old : young);
}

/* Run `body` in a forked child; its failed checks fail the test. */
static void
in_child(void (*body)(struct world *), struct world *world)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        body(world);
        _exit(check_failed());
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
}

static void
serve_in_child(struct world *world)
{
    CHECK_EQUAL(ab_registry_generation(), 1);
    CHECK_EQUAL(world->batcher->synced_data.outstanding, 0);
    CHECK_EQUAL(world->batcher->synced_data.running, 0);
    CHECK_EQUAL(world->batcher->synced_data.workers, 0);
    CHECK_EQUAL(world->batcher->synced_data.queue.length, 0);
    // The parent's loop is not the child's; a new one serves.
    world->loops[0] = open_loop();
    CHECK(push_items(world, 0, 50, 2, 1) == AB_OK);
    CHECK(!is_readable(world->loops[0]));
    CHECK(cut_batch(world, 0) == NULL); // the window has not ended
    advance_clock(10 * MS);
    // The timer thread is the child's own.
    CHECK(comes_true(has_mail, world->loops[0]));
    struct ab_batch *batch = cut_batch(world, 0);
    if (CHECK(batch != NULL)) {
        settle_batch(world, batch);
        world->told_count = 0;
        CHECK_EQUAL(tell_all(world), 2);
        CHECK(world->told[0].waiter == thing(50));
    }
}

static void
child_of_a_fork_starts_empty_and_serves_anew(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = 10 * MS;
    limits_of(&world)->max_batch_size = 3;
    limits_of(&world)->max_queue_size = 5;
    CHECK(push_items(&world, 0, 1, 4, 1) == AB_OK);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    uint64_t pair;
    CHECK(submit_item(&world, 0, 5, 1, &pair) == AB_OK);
    CHECK(submit_item(&world, 0, 6, 1, &pair) == AB_OK);
    CHECK(watch_idle(&world, 0, 7) == AB_OK);
    in_child(serve_in_child, &world);
    settle_batch(&world, batch); // the parent noticed nothing
    begin_drain(&world, 0);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 4 + 2 * 2 + 1);
    world_close(&world);
}

static void
leave_in_child(struct world *world)
{
    // What the interpreter does at the end of a child.
    ab_mailbox_close(world->loops[0]);
    ab_mailbox_release(world->loops[0]);
    ab_batcher_orphan(world->batcher);
}

static void
child_of_a_fork_may_leave_at_once(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = 10 * MS;
    CHECK(push_items(&world, 0, 1, 4, 1) == AB_OK);
    in_child(leave_in_child, &world);
    advance_clock(10 * MS);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 4);
    world_close(&world);
}

static void
settle_in_child(struct world *world)
{
    // fork() was called inside process_batch, which returns in the child.
    struct ab_batch *batch = world->batcher->object;
    struct ab_todo todo = {0};
    void *rows[2] = {thing(8), thing(9)};
    ab_batch_store(batch, 0, rows, 2);
    ab_batch_settle(batch, false, NULL, &todo);
    ab_batch_let_go(batch);
    CHECK_EQUAL(world->batcher->synced_data.running, 0);
    CHECK_EQUAL(world->batcher->synced_data.outstanding, 0);
    CHECK(world->batcher->synced_data.batches.first == NULL);
}

static void
batch_that_forked_may_be_settled_in_the_child(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 0);
    CHECK(push_items(&world, -1, 1, 2, 1) == AB_OK);
    struct ab_batch *batch = cut_batch(&world, -1);
    REQUIRE(batch != NULL);
    world.batcher->object = batch;
    in_child(settle_in_child, &world);
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 2);
    world_close(&world);
}

const struct test registry_tests[] = {
    TEST(walk_meets_every_batcher_once),
    TEST(walk_survives_batchers_that_leave_meanwhile),
    TEST(child_of_a_fork_starts_empty_and_serves_anew),
    TEST(child_of_a_fork_may_leave_at_once),
    TEST(batch_that_forked_may_be_settled_in_the_child),
    TESTS_END,
};
