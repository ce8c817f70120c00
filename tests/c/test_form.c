/* The cut: how a batch forms, piece by piece. */
#include "core/batch.h"
#include "core/leave.h"
#include "core/outbox.h"
#include "world.h"

/* A batch that was cut and filled once, but not started. */
static struct ab_batch *
form_batch(struct world *world, int loop)
{
    struct ab_todo todo = {0};
    struct ab_batch *batch = NULL;
    CHECK(ab_batch_cut(world->batcher, loop < 0 ? NULL : link_of(world, loop),
                       &batch, &todo) == AB_OK);
    carry_out(world, &todo);
    if (CHECK(batch != NULL)) {
        (void)ab_batch_fill(batch, SIZE_MAX, &todo);
        carry_out(world, &todo);
    }
    return batch;
}

/* What a host does when it finds the waiter of an entry gone. */
static void
set_aside(struct ab_batch *batch, size_t at)
{
    batch->entries[at].waiter = batch->entries[at].value = NULL;
}

static size_t
fill(struct world *world, struct ab_batch *batch)
{
    struct ab_todo todo = {0};
    size_t added = ab_batch_fill(batch, SIZE_MAX, &todo);
    carry_out(world, &todo);
    return added;
}

static bool
start(struct world *world, struct ab_batch *batch)
{
    struct ab_todo todo = {0};
    bool has_items = ab_batch_start(batch, &todo);
    carry_out(world, &todo);
    if (has_items) {
        CHECK(ab_batch_formed(batch, 0));
    }
    return has_items;
}

static void
cancelled_items_do_not_count_and_others_take_their_place(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->max_batch_size = 4;
    limits_of(&world)->max_batch_cost = 40;
    CHECK(push_items(&world, 0, 1, 7, 10) == AB_OK);
    struct ab_batch *batch = form_batch(&world, 0);
    REQUIRE(batch != NULL && batch->length == 4);
    set_aside(batch, 1);
    set_aside(batch, 3);
    CHECK_EQUAL(fill(&world, batch), 2);
    set_aside(batch, 2); // the first of the new ones: the others moved up
    CHECK_EQUAL(fill(&world, batch), 1);
    CHECK_EQUAL(fill(&world, batch), 0);
    CHECK(start(&world, batch));
    const size_t left[] = {1, 3, 6, 7};
    CHECK_EQUAL(batch->length, 4);
    for (size_t i = 0; i < 4; i++) {
        CHECK(batch->entries[i].waiter == thing(left[i]));
    }
    CHECK_EQUAL(batch->cost.low, 40);
    struct ab_meter *meter = &world.batcher->synced_data.meter;
    CHECK_EQUAL(meter->cancelled, 3);
    CHECK_EQUAL(meter->batched_items, 4);
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 4);
    CHECK_EQUAL(meter->completed, 4);
    world_close(&world);
}

static void
permit_returns_when_all_are_cancelled(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->max_batch_size = 2;
    CHECK(push_items(&world, 0, 1, 2, 10) == AB_OK);
    CHECK(watch_idle(&world, 0, 9) == AB_OK);
    struct ab_batch *batch = form_batch(&world, 0);
    REQUIRE(batch != NULL && batch->length == 2);
    set_aside(batch, 0);
    set_aside(batch, 1);
    CHECK_EQUAL(fill(&world, batch), 0);
    CHECK(!start(&world, batch));
    CHECK_EQUAL(world.batcher->synced_data.running, 0);
    CHECK_EQUAL(world.batcher->synced_data.meter.batches, 0);
    CHECK_EQUAL(tell_all(&world), 1); // and who waits for idleness is told
    CHECK(push_items(&world, 0, 3, 1, 1) == AB_OK);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 2);
    world_close(&world);
}

static void
item_too_dear_for_the_rest_goes_first_once_the_rest_is_gone(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->max_batch_cost = 10;
    CHECK(push_items(&world, 0, 1, 2, 5) == AB_OK);
    CHECK(push_items(&world, 0, 3, 1, INT64_MAX) == AB_OK);
    struct ab_batch *batch = form_batch(&world, 0);
    REQUIRE(batch != NULL && batch->length == 2);
    set_aside(batch, 0);
    set_aside(batch, 1);
    CHECK_EQUAL(fill(&world, batch), 1);
    CHECK(start(&world, batch));
    CHECK_EQUAL(batch->length, 1);
    CHECK_EQUAL(batch->cost.low, INT64_MAX);
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 1);
    world_close(&world);
}

static void
batch_that_forms_is_told_of_a_forced_stop(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 0);
    CHECK(push_items(&world, -1, 1, 2, 1) == AB_OK);
    struct ab_batch *batch = form_batch(&world, -1), *rest;
    REQUIRE(batch != NULL);
    CHECK(ab_batch_collect(world.batcher, NULL, AB_COLLECT_RUNNING, &rest) ==
          AB_OK);
    CHECK(rest == NULL); // its host reads the entries just now
    struct ab_todo todo = {0};
    CHECK(ab_batch_start(batch, &todo));
    CHECK(!ab_batch_formed(batch, 7));
    CHECK_EQUAL(batch->thread, 0); // no code of the user runs
    carry_out(&world, &todo);
    ab_batch_settle(batch, true, NULL, &todo);
    carry_out(&world, &todo);
    ab_batch_let_go(batch);
    CHECK_EQUAL(tell_all(&world), 2);
    world_close(&world);
}

static void
batch_takes_a_piece_at_a_time_and_no_more_than_was_due(void)
{
    struct world world;
    struct ab_todo todo = {0};
    world_open(&world, AB_HOST_LOOP, 1);
    CHECK(push_items(&world, 0, 1, 5, 1) == AB_OK);
    struct ab_batch *batch;
    CHECK(ab_batch_cut(world.batcher, link_of(&world, 0), &batch, &todo) ==
          AB_OK);
    carry_out(&world, &todo);
    REQUIRE(batch != NULL && batch->due == 5);
    CHECK_EQUAL(ab_batch_fill(batch, 2, &todo), 2);
    CHECK_EQUAL(batch->due, 3);
    CHECK(push_items(&world, 0, 6, 3, 1) == AB_OK); // meanwhile
    CHECK_EQUAL(ab_batch_fill(batch, 4, &todo), 4);
    CHECK_EQUAL(batch->due, 0);
    CHECK(start(&world, batch));
    CHECK_EQUAL(batch->length, 6);
    CHECK_EQUAL(world.batcher->synced_data.meter.queue_wait.count, 6);
    settle_batch(&world, batch);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 8);
    world_close(&world);
}

static void
batch_that_is_full_has_no_more_to_take(void)
{
    struct world world;
    struct ab_todo todo = {0};
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->max_batch_size = 2;
    CHECK(push_items(&world, 0, 1, 5, 1) == AB_OK);
    struct ab_batch *batch;
    CHECK(ab_batch_cut(world.batcher, link_of(&world, 0), &batch, &todo) ==
          AB_OK);
    carry_out(&world, &todo);
    REQUIRE(batch != NULL);
    CHECK_EQUAL(ab_batch_fill(batch, 2, &todo), 2);
    CHECK_EQUAL(batch->due, 0);
    CHECK(start(&world, batch));
    settle_batch(&world, batch);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 5);
    world_close(&world);
}

static void
paused_batch_is_refused_by_a_forced_stop_like_one_that_runs(void)
{
    struct world world;
    struct ab_todo todo = {0};
    world_open(&world, AB_HOST_LOOP, 1);
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    struct ab_batch *batch = form_batch(&world, 0), *refused;
    REQUIRE(batch != NULL);
    ab_batch_pause(batch, &todo);
    CHECK(ab_batch_resume(batch));
    ab_batch_pause(batch, &todo);
    CHECK(ab_batch_collect(world.batcher, NULL, AB_COLLECT_RUNNING,
                           &refused) == AB_OK);
    REQUIRE(refused != NULL && refused->length == 2);
    settle_batch(&world, refused);
    CHECK_EQUAL(tell_all(&world), 2);
    CHECK(!ab_batch_resume(batch));
    CHECK_EQUAL(world.batcher->synced_data.running, 1);
    ab_batch_settle(batch, true, NULL, &todo);
    carry_out(&world, &todo);
    ab_batch_let_go(batch);
    CHECK_EQUAL(world.batcher->synced_data.running, 0);
    CHECK_EQUAL(tell_all(&world), 0);
    world_close(&world);
}

static void
paused_batch_is_found_by_the_loop_that_closes(void)
{
    struct world world;
    struct ab_todo todo = {0};
    world_open(&world, AB_HOST_LOOP, 1);
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    struct ab_batch *batch = form_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK(ab_batcher_hosted_by(world.batcher, link_of(&world, 0)) == NULL);
    ab_batch_pause(batch, &todo);
    CHECK(ab_batcher_hosted_by(world.batcher, link_of(&world, 0)) == batch);
    ab_batch_settle(batch, true, NULL, &todo);
    carry_out(&world, &todo);
    ab_batch_let_go(batch);
    CHECK(!ab_batch_resume(batch)); // its own host comes back too late
    ab_batch_let_go(batch);
    CHECK_EQUAL(tell_all(&world), 2);
    world_close(&world);
}

const struct test form_tests[] = {
    TEST(cancelled_items_do_not_count_and_others_take_their_place),
    TEST(permit_returns_when_all_are_cancelled),
    TEST(item_too_dear_for_the_rest_goes_first_once_the_rest_is_gone),
    TEST(batch_that_forms_is_told_of_a_forced_stop),
    TEST(batch_takes_a_piece_at_a_time_and_no_more_than_was_due),
    TEST(batch_that_is_full_has_no_more_to_take),
    TEST(paused_batch_is_refused_by_a_forced_stop_like_one_that_runs),
    TEST(paused_batch_is_found_by_the_loop_that_closes),
    TESTS_END,
};
