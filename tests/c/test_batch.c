/* From the cut to the last waiter. */
#include "core/batch.h"
#include "core/intake.h"
#include "core/leave.h"
#include "core/outbox.h"
#include "world.h"

static void
results_reach_each_loop_in_order(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 3);
    REQUIRE(link_of(&world, 0) != NULL);
    ab_batcher_move_home(world.batcher, world.loops[0]);
    for (size_t i = 0; i < 12; i++) {
        CHECK(push_items(&world, (int)(i % 4) - 1, i + 1, 1, 1) == AB_OK);
    }
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL && batch->length == 12);
    void *rows[12];
    for (size_t i = 0; i < 12; i++) {
        rows[i] = thing(101 + i);
    }
    ab_batch_store(batch, 0, rows, 5);
    ab_batch_store(batch, 5, rows + 5, 7);
    for (size_t i = 0; i < 12; i++) {
        CHECK(rows[i] == thing(i + 1)); // the items, to be dropped
    }
    settle_batch(&world, batch);
    for (size_t loop = 0; loop < 4; loop++) {
        struct ab_link *link = link_of(&world, (int)loop - 1);
        struct ab_parcel parcels[3];
        CHECK_EQUAL(ab_link_take(link, parcels, 2), 2);
        CHECK_EQUAL(ab_link_take(link, parcels + 2, 5), 1);
        CHECK_EQUAL(ab_link_take(link, parcels, 0), 0);
        for (size_t i = 0; i < 3; i++) {
            size_t number = 4 * i + loop + 1;
            CHECK(parcels[i].waiter == thing(number));
            CHECK(parcels[i].value == thing(number + 100));
            CHECK(parcels[i].kind == AB_ITEM && !parcels[i].is_failed);
        }
        struct ab_told told = {.completed = 2, .cancelled = 1};
        struct ab_todo todo = {0};
        ab_link_count(link, &told);
        ab_link_told(link, &told, &todo);
        carry_out(&world, &todo);
    }
    CHECK_EQUAL(world.batcher->synced_data.meter.completed, 8);
    CHECK_EQUAL(world.batcher->synced_data.meter.cancelled, 4);
    world_close(&world);
}

static void
settling_twice_does_nothing(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->concurrency = 2;
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK(push_items(&world, 0, 3, 2, 1) == AB_OK);
    struct ab_batch *other = cut_batch(&world, 0);
    REQUIRE(other != NULL);
    struct ab_todo todo = {0};
    ab_batch_settle(batch, false, NULL, &todo);
    carry_out(&world, &todo);
    void *row = thing(77);
    ab_batch_store(batch, 0, &row, 1);
    CHECK(row == thing(77)); // too late
    settle_batch(&world, batch);
    CHECK_EQUAL(world.batcher->synced_data.running, 1);
    CHECK_EQUAL(tell_all(&world), 2);
    CHECK(!world.told[0].is_failed);
    CHECK(world.told[0].value == thing(1));
    settle_batch(&world, other);
    CHECK_EQUAL(tell_all(&world), 2);
    world_close(&world);
}

static void
forced_stop_collects_everybody(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 2);
    limits_of(&world)->max_batch_size = 2;
    limits_of(&world)->max_queue_size = 4;
    uint64_t pair;
    CHECK(push_items(&world, 0, 1, 4, 1) == AB_OK);
    struct ab_batch *batch = cut_batch(&world, 0), *rest;
    REQUIRE(batch != NULL);
    CHECK(push_items(&world, 1, 5, 2, 1) == AB_OK);
    CHECK(submit_item(&world, 1, 7, 1, &pair) == AB_OK);
    CHECK(ab_batch_collect(world.batcher, NULL,
                           AB_COLLECT_QUEUE | AB_COLLECT_BACKLOG |
                               AB_COLLECT_RUNNING,
                           &rest) == AB_OK);
    REQUIRE(rest != NULL);
    CHECK_EQUAL(rest->length, 8); // a caller for space is two entries
    CHECK_EQUAL(world.batcher->synced_data.queue.length, 0);
    void *row = thing(50);
    ab_batch_store(batch, 0, &row, 1);
    CHECK(row == thing(50)); // its waiter is gone
    struct ab_todo todo = {0};
    ab_batch_settle(rest, true, NULL, &todo);
    carry_out(&world, &todo);
    ab_batch_let_go(rest);
    CHECK_EQUAL(tell_all(&world), 8);
    size_t silent = 0;
    for (size_t i = 0; i < world.told_count; i++) {
        CHECK(world.told[i].is_failed);
        silent += world.told[i].kind == AB_SILENT;
    }
    CHECK_EQUAL(silent, 1);
    CHECK_EQUAL(world.batcher->synced_data.running, 1); // it ends when it will
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 0);
    world_close(&world);
}

static void
collecting_for_one_loop_leaves_the_others(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 2);
    limits_of(&world)->window_ns = SECOND;
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    CHECK(push_items(&world, 1, 3, 2, 1) == AB_OK);
    CHECK(push_items(&world, 0, 5, 1, 1) == AB_OK);
    close_loop(&world, 0);
    CHECK_EQUAL(world.told_count, 3);
    CHECK_EQUAL(world.batcher->synced_data.queue.length, 2);
    flush_queue(&world, 1);
    serve_all(&world, 1);
    CHECK_EQUAL(world.told_count, 5);
    CHECK(world.told[4].waiter == thing(4) && !world.told[4].is_failed);
    world_close(&world);
}

static void
watchers_are_told_when_all_is_done(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 2);
    CHECK(watch_idle(&world, 1, 90) == AB_OK);
    CHECK_EQUAL(tell_all(&world), 1); // idle already
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK(watch_idle(&world, 1, 91) == AB_OK);
    CHECK(watch_idle(&world, -1, 92) == AB_OK);
    CHECK_EQUAL(tell_all(&world), 0);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK_EQUAL(tell_all(&world), 0);
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 3);
    CHECK(world.told[1].kind == AB_ITEM); // the item before the watchers
    CHECK(world.told[2].kind == AB_WATCHER);
    CHECK(world.told[3].kind == AB_WATCHER);
    world_close(&world);
}

static void
watchers_need_not_wait_for_a_forced_stop(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 2);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK(watch_idle(&world, 1, 91) == AB_OK);
    ab_batcher_tell_watchers(world.batcher);
    CHECK_EQUAL(tell_all(&world), 1);
    CHECK(world.told[0].waiter == thing(91));
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 1);
    world_close(&world);
}

const struct test batch_tests[] = {
    TEST(results_reach_each_loop_in_order),
    TEST(settling_twice_does_nothing),
    TEST(forced_stop_collects_everybody),
    TEST(collecting_for_one_loop_leaves_the_others),
    TEST(watchers_are_told_when_all_is_done),
    TEST(watchers_need_not_wait_for_a_forced_stop),
    TESTS_END,
};
