/* Batches that lie assembled ahead of their turn. */
#include "core/prefetch.h"

#include "core/decide.h"
#include "world.h"

/* What the line says, beside a count that begins anew each time. */
static void
compare(const struct ab_prefetch *ahead, const struct ab_limits *limits,
        const struct ab_queue *queue, size_t most)
{
    struct ab_cursor cursor = ab_queue_walk(queue, 0);
    const struct ab_entry *entry;
    size_t batches = 0, size = 0, entries = 0;
    uint64_t cost = 0, last = 0;
    while ((entry = ab_queue_next(queue, &cursor)) != NULL) {
        bool fits = batches > 0 && (int64_t)size < limits->max_batch_size &&
                    (int64_t)last + entry->cost <= limits->max_batch_cost;
        if (!fits && batches == most) {
            break;
        }
        batches += !fits;
        size = fits ? size + 1 : 1;
        last = fits ? last + (uint64_t)entry->cost : (uint64_t)entry->cost;
        entries++;
        cost += (uint64_t)entry->cost;
    }
    CHECK_EQUAL(ahead->batches, batches);
    CHECK_EQUAL(ahead->entries, entries);
    CHECK_EQUAL(ahead->cost.low, cost);
    CHECK_EQUAL(ahead->cost.high, 0);
}

static void
pop_some(struct ab_queue *queue, size_t count)
{
    for (; count > 0 && queue->length > 0; count--) {
        (void)ab_queue_pop(queue);
    }
}

static void
drop_some(struct ab_queue *queue, struct dice *dice)
{
    struct ab_cursor cursor = ab_queue_walk(queue, 0);
    struct ab_entry *entry;
    while ((entry = ab_queue_next(queue, &cursor)) != NULL) {
        if (roll(dice, 4) == 0) {
            (void)ab_queue_take(queue, entry);
        }
    }
}

static void
line_is_where_a_fresh_count_would_put_it(void)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct dice dice = {seed};
        struct ab_limits limits = {
            .max_batch_size = (int64_t)roll(&dice, 60) + 1,
            .max_batch_cost = (int64_t)roll(&dice, 200) + 1,
        };
        size_t most = (size_t)roll(&dice, 5) + 1;
        struct ab_queue queue;
        struct ab_prefetch ahead = {0};
        ab_queue_init(&queue);
        for (int step = 0; step < 400; step++) {
            struct ab_entry entry = {.waiter = thing(1),
                                     .cost = (int64_t)roll(&dice, 20)};
            switch (roll(&dice, 8)) {
            case 0:
                pop_some(&queue, (size_t)roll(&dice, 300));
                break;
            case 1:
                drop_some(&queue, &dice);
                break;
            case 2:
                (void)ab_queue_head(&queue); // gives up holes, and chunks
                break;
            default:
                for (uint64_t i = roll(&dice, 100); i > 0; i--) {
                    REQUIRE(ab_queue_push(&queue, &entry, 1) == AB_OK);
                }
            }
            if (roll(&dice, 3) > 0) {
                ab_prefetch_update(&ahead, &limits, &queue, most);
                compare(&ahead, &limits, &queue, most);
            }
        }
        ab_queue_fini(&queue);
    }
}

/* One permit, batches of two, two places in the queue, one batch ahead. */
static void
open_ahead(struct world *world)
{
    world_open(world, AB_HOST_LOOP, 1);
    *limits_of(world) = (struct ab_limits){
        .max_batch_size = 2,
        .max_batch_cost = AB_UNLIMITED,
        .max_queue_size = 2,
        .max_queue_cost = AB_UNLIMITED,
        .concurrency = 1,
        .window_ns = 1000 * SECOND,
        .prefetch_batches = 1,
    };
}

static void
nothing_is_ahead_while_a_permit_is_free(void)
{
    struct world world;
    open_ahead(&world);
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    CHECK_EQUAL(ab_prefetched_locked(world.batcher), 0);
    CHECK(push_items(&world, 0, 3, 1, 1) == AB_FULL);
    serve_all(&world, 0);
    world_close(&world);
}

static void
queue_holds_what_is_behind_the_batches_ahead(void)
{
    struct world world;
    open_ahead(&world);
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    // One batch assembled, one being assembled, and the queue.
    for (size_t i = 0; i < 6; i++) {
        CHECK(push_items(&world, 0, 3 + i, 1, 1) == AB_OK);
        CHECK_EQUAL(ab_prefetched_locked(world.batcher), 1);
    }
    CHECK(push_items(&world, 0, 9, 1, 1) == AB_FULL);
    settle_batch(&world, batch);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 8);
    world_close(&world);
}

static void
without_a_bound_all_are_ahead(void)
{
    struct world world;
    open_ahead(&world);
    limits_of(&world)->prefetch_batches = AB_UNLIMITED;
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    for (size_t i = 0; i < 99; i++) {
        CHECK(push_items(&world, 0, 3 + i, 1, 1) == AB_OK);
    }
    CHECK_EQUAL(ab_prefetched_locked(world.batcher), 50);
    settle_batch(&world, batch);
    serve_all(&world, 0);
    flush_queue(&world, 0); // the last one is not full
    serve_all(&world, 0);
    world_close(&world);
}

static void
batch_ahead_goes_on_growing_until_its_turn(void)
{
    struct world world;
    open_ahead(&world);
    limits_of(&world)->max_batch_size = 4;
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    flush_queue(&world, 0);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK(push_items(&world, 0, 3, 1, 1) == AB_OK);
    advance_clock(2000 * SECOND); // its window is over
    CHECK_EQUAL(ab_prefetched_locked(world.batcher), 1);
    CHECK(push_items(&world, 0, 4, 2, 1) == AB_OK);
    CHECK_EQUAL(ab_prefetched_locked(world.batcher), 1);
    settle_batch(&world, batch);
    batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK_EQUAL(batch->length, 3);
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 5);
    world_close(&world);
}

static void
cut_admits_callers_who_wait_for_space(void)
{
    struct world world;
    uint64_t pair;
    open_ahead(&world);
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    CHECK(submit_item(&world, 0, 3, 1, &pair) == AB_OK);
    CHECK_EQUAL(world.batcher->synced_data.queue.length, 2);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    CHECK_EQUAL(batch->length, 2);
    CHECK_EQUAL(world.batcher->synced_data.queue.length, 1);
    settle_batch(&world, batch);
    flush_queue(&world, 0);
    serve_all(&world, 0);
    world_close(&world);
}

const struct test prefetch_tests[] = {
    TEST(line_is_where_a_fresh_count_would_put_it),
    TEST(nothing_is_ahead_while_a_permit_is_free),
    TEST(queue_holds_what_is_behind_the_batches_ahead),
    TEST(without_a_bound_all_are_ahead),
    TEST(batch_ahead_goes_on_growing_until_its_turn),
    TEST(cut_admits_callers_who_wait_for_space),
    TESTS_END,
};
