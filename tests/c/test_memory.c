/* One scenario, again and again, with another allocation that fails. */
#include "core/intake.h"
#include "core/leave.h"
#include "world.h"

struct show {
    struct world world;
    size_t queued; // accepted by push or wait_for_space
    size_t callers, watchers;
};

static void
push_many(struct show *show, int loop, size_t first, size_t count)
{
    size_t before = show->world.batcher->synced_data.outstanding;
    enum ab_status status = push_items(&show->world, loop, first, count, 1);
    CHECK(status == AB_OK || status == AB_FULL || status == AB_NO_MEMORY);
    show->queued += status == AB_OK ? count : 0;
    CHECK_EQUAL(show->world.batcher->synced_data.outstanding,
                before + (status == AB_OK ? count : 0));
}

static void
submit_one(struct show *show, int loop, size_t number)
{
    uint64_t pair;
    enum ab_status status = submit_item(&show->world, loop, number, 1, &pair);
    CHECK(status == AB_OK || status == AB_NO_MEMORY);
    show->queued += status == AB_OK;
    show->callers += status == AB_OK;
}

static bool
open_show(struct show *show)
{
    *show = (struct show){0};
    ab_clock_freeze();
    if (ab_batcher_new(&show->world.batcher, show) != AB_OK) {
        return false;
    }
    show->world.batcher->synced_data.limits =
        (struct ab_limits){50, AB_UNLIMITED, 100, AB_UNLIMITED, 1, SECOND, 0};
    show->world.batcher->synced_data.host = AB_HOST_LOOP;
    for (size_t i = 0; i < 2; i++) {
        struct ab_mailbox **loop = &show->world.loops[i];
        if (ab_mailbox_new(loop, true) != AB_OK) {
            return false;
        }
        atomic_store(&(*loop)->loop, *loop);
    }
    return true;
}

/* Everything that allocates, once; refusals are taken as they come. */
static void
run_show(struct show *show)
{
    struct world *world = &show->world;
    if (!open_show(show)) {
        return;
    }
    push_many(show, 0, 1, 60);
    push_many(show, 1, 61, 40);
    submit_one(show, 0, 101);
    submit_one(show, 1, 102);
    show->watchers += watch_idle(world, 0, 300) == AB_OK;
    flush_queue(world, 0);
    struct ab_batch *batch = cut_batch(world, 0);
    push_many(show, 0, 103, 100);
    (void)tell_all(world);
    struct ab_batch *rest = NULL;
    enum ab_status status =
        ab_batch_collect(world->batcher, NULL, AB_COLLECT_BACKLOG, &rest);
    CHECK(status == AB_OK || status == AB_NO_MEMORY);
    if (rest != NULL) {
        settle_batch(world, rest);
    }
    if (batch != NULL) {
        settle_batch(world, batch);
    }
}

/* With memory again, whoever was accepted is served. */
static void
finish_show(struct show *show)
{
    struct world *world = &show->world;
    if (world->batcher == NULL) {
        return;
    }
    if (world->loops[1] != NULL) {
        begin_drain(world, 0);
        look(world, 0);
        serve_all(world, 0);
    }
    size_t items = 0, callers = 0, watchers = 0;
    for (size_t i = 0; i < world->told_count; i++) {
        items +=
            world->told[i].kind == AB_ITEM || world->told[i].kind == AB_SILENT;
        callers += world->told[i].kind == AB_SPACE;
        watchers += world->told[i].kind == AB_WATCHER;
    }
    CHECK_EQUAL(items, show->queued);
    CHECK_EQUAL(callers, show->callers);
    CHECK_EQUAL(watchers, show->watchers);
    world_close(world);
}

static void
any_allocation_may_fail_and_nothing_is_lost(void)
{
    static struct show show;
    bool has_failed = true;
    long count = 0;
    for (; has_failed && count < 100 && !check_failed(); count++) {
        fail_allocation_after(count);
        run_show(&show);
        has_failed = has_allocation_failed();
        fail_allocation_after(-1);
        finish_show(&show);
        if (!CHECK_EQUAL(live_blocks(), 0)) {
            break;
        }
    }
    CHECK(!has_failed);
    CHECK(count > 10); // the scenario does allocate
}

static void
cut_without_memory_is_tried_again(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK_EQUAL(world.runs, 1);
    struct ab_todo todo = {0};
    struct ab_batch *batch;
    struct ab_link *link = link_of(&world, 0);
    for (long fails_at = 0; fails_at < 2; fails_at++) {
        fail_allocation_after(fails_at);
        CHECK(ab_batch_cut(world.batcher, link, &batch, &todo) ==
              AB_NO_MEMORY);
        fail_allocation_after(-1);
        carry_out(&world, &todo);
        CHECK_EQUAL(world.batcher->synced_data.running, 0);
        advance_clock(SECOND);
        CHECK(comes_true(has_mail, world.loops[0]));
        CHECK_EQUAL(read_mail(&world, 0), 1);
    }
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 1);
    world_close(&world);
}

static void
cut_without_memory_is_tried_again_by_a_loop_that_no_fd_wakes(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 0);
    REQUIRE(ab_mailbox_new(&world.loops[0], false) == AB_OK);
    atomic_store(&world.loops[0]->loop, world.loops[0]);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    struct ab_todo todo = {0};
    struct ab_batch *batch;
    struct ab_link *link = link_of(&world, 0);
    fail_allocation_after(0);
    CHECK(ab_batch_cut(world.batcher, link, &batch, &todo) == AB_NO_MEMORY);
    fail_allocation_after(-1);
    carry_out(&world, &todo);
    CHECK(world.retry_ns > ab_clock_now_ns());
    advance_clock(SECOND);
    look(&world, 0);
    CHECK_EQUAL(world.runs, 2);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 1);
    world_close(&world);
}

static void
batch_goes_smaller_when_it_cannot_grow(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    struct ab_todo todo = {0};
    struct ab_batch *batch;
    CHECK(ab_batch_cut(world.batcher, link_of(&world, 0), &batch, &todo) ==
          AB_OK);
    carry_out(&world, &todo);
    REQUIRE(batch != NULL);
    CHECK(push_items(&world, 0, 2, 200, 1) == AB_OK);
    fail_allocation_after(0);
    CHECK_EQUAL(ab_batch_fill(batch, SIZE_MAX, &todo), 1);
    CHECK(has_allocation_failed());
    fail_allocation_after(-1);
    CHECK(ab_batch_start(batch, &todo));
    CHECK(ab_batch_formed(batch, 0));
    carry_out(&world, &todo);
    CHECK_EQUAL(batch->length, 1);
    settle_batch(&world, batch);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 201);
    world_close(&world);
}

static bool
is_admitted(void *batcher)
{
    return !ab_batcher_has_backlog(batcher);
}

static void
caller_for_space_is_admitted_when_there_is_memory_again(void)
{
    struct world world;
    uint64_t pair;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = 1000 * SECOND;
    REQUIRE(link_of(&world, 0) != NULL);
    fail_allocation_after(2); // its batch is two blocks, then the queue
    CHECK(submit_item(&world, 0, 1, 1, &pair) == AB_OK);
    CHECK(has_allocation_failed());
    fail_allocation_after(-1);
    CHECK(ab_batcher_has_backlog(world.batcher));
    CHECK_EQUAL(tell_all(&world), 0);
    advance_clock(SECOND);
    CHECK(comes_true(is_admitted, world.batcher));
    CHECK(comes_true(has_mail, world.loops[0])); // nobody else would tell it
    CHECK_EQUAL(read_mail(&world, 0), 1);
    REQUIRE(world.told_count == 1);
    CHECK(world.told[0].kind == AB_SPACE);
    flush_queue(&world, 0);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 2);
    world_close(&world);
}

static void
caller_for_space_is_admitted_by_a_loop_that_no_fd_wakes(void)
{
    struct world world;
    uint64_t pair;
    world_open(&world, AB_HOST_LOOP, 0);
    REQUIRE(ab_mailbox_new(&world.loops[0], false) == AB_OK);
    atomic_store(&world.loops[0]->loop, world.loops[0]);
    limits_of(&world)->window_ns = 1000 * SECOND;
    REQUIRE(link_of(&world, 0) != NULL);
    fail_allocation_after(2);
    CHECK(submit_item(&world, 0, 1, 1, &pair) == AB_OK);
    CHECK(has_allocation_failed());
    fail_allocation_after(-1);
    CHECK(world.retry_ns > ab_clock_now_ns());
    advance_clock(SECOND);
    look(&world, 0);
    CHECK_EQUAL(tell_all(&world), 1);
    flush_queue(&world, 0);
    serve_all(&world, 0);
    world_close(&world);
}

const struct test memory_tests[] = {
    TEST(any_allocation_may_fail_and_nothing_is_lost),
    TEST(cut_without_memory_is_tried_again),
    TEST(cut_without_memory_is_tried_again_by_a_loop_that_no_fd_wakes),
    TEST(batch_goes_smaller_when_it_cannot_grow),
    TEST(caller_for_space_is_admitted_when_there_is_memory_again),
    TEST(caller_for_space_is_admitted_by_a_loop_that_no_fd_wakes),
    TESTS_END,
};
