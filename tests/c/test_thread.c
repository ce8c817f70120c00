/* The aggregation thread cannot be created: what then takes its place. */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "core/crew.h"
#include "core/yield.h"
#include "refusal.h"
#include "world.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static atomic_int counts, rings;

static void
take_count(struct ab_timer *timer)
{
    (void)timer;
    atomic_fetch_add(&counts, 1);
}

static void
give_count(struct ab_timer *timer)
{
    (void)timer;
    atomic_fetch_sub(&counts, 1);
}

static void
ring(struct ab_timer *timer)
{
    atomic_fetch_add(&rings, 1);
    give_count(timer);
}

static bool
has_rung(void *context)
{
    (void)context;
    return atomic_load(&rings) > 0;
}

static void
arming_without_a_thread_arms_nothing(void)
{
    struct ab_timer timer = {
        .fire = ring, .acquire = take_count, .release = give_count};
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    refuse_threads(true);
    for (size_t i = 1; i <= 2; i++) { // it is tried each time
        CHECK(ab_aggregator_arm(&timer, ab_clock_now_ns()) == AB_NO_THREAD);
        CHECK_EQUAL(refused_threads(), i);
    }
    CHECK_EQUAL(timer.slot, 0);
    CHECK_EQUAL(counts, 0);
    ab_aggregator_disarm(&timer);
    ab_aggregator_wake(); // nobody is there: harmless
    refuse_threads(false);
    CHECK(ab_aggregator_arm(&timer, ab_clock_now_ns()) == AB_OK);
    CHECK(comes_true(has_rung, NULL));
    ab_aggregator_unreserve(true);
}

static void
signals_are_not_blocked_by_a_failure(void)
{
    struct ab_timer timer = {
        .fire = ring, .acquire = take_count, .release = give_count};
    sigset_t before, after;
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    refuse_threads(true);
    CHECK(ab_aggregator_arm(&timer, ab_clock_now_ns()) == AB_NO_THREAD);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int i = 1; i < 32; i++) {
        CHECK_EQUAL(sigismember(&after, i), sigismember(&before, i));
    }
    ab_aggregator_unreserve(true);
}

static void
loop_keeps_the_time_itself(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = 10 * MS;
    int64_t due_ns = ab_clock_now_ns() + 10 * MS;
    refuse_threads(true);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK_EQUAL(world.retry_ns, due_ns);
    world.retry_ns = 0;
    CHECK(push_items(&world, 0, 2, 1, 1) == AB_OK);
    CHECK_EQUAL(world.retry_ns, 0); // it does already
    ab_clock_advance(10 * MS - 1);
    look(&world, 0); // a little early: asked anew
    CHECK_EQUAL(world.retry_ns, due_ns);
    CHECK_EQUAL(world.runs, 0);
    ab_clock_advance(1);
    look(&world, 0);
    CHECK_EQUAL(world.runs, 1);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 2);
    refuse_threads(false);
    world_close(&world);
}

static void
next_window_is_kept_by_the_thread_once_there_is_one(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = 10 * MS;
    refuse_threads(true);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK(world.retry_ns != 0);
    refuse_threads(false);
    CHECK(push_items(&world, 0, 2, 1, 1) == AB_OK);
    advance_clock(10 * MS);
    CHECK(comes_true(has_mail, world.loops[0]));
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 2);
    world_close(&world);
}

static void
idle_worker_keeps_the_time_itself(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    limits_of(&world)->window_ns = 10 * MS;
    refuse_threads(true);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    CHECK_EQUAL(world.retry_ns, 0); // of a loop that may stop
    ab_clock_advance(10 * MS);
    CHECK(ab_worker_wait(world.batcher, true)); // due: it does not block
    serve_all(&world, -1);
    CHECK_EQUAL(world.told_count, 1);
    refuse_threads(false);
    world_close(&world);
}

struct worker {
    struct ab_batcher *batcher;
    char path[64]; // what the system says of its thread
    atomic_bool is_begun;
};

static void *
wait_for_work(void *context)
{
    struct worker *worker = context;
    char link[32] = "";
    if (readlink("/proc/thread-self", link, sizeof link - 1) < 0) {
        link[0] = '\0';
    }
    snprintf(worker->path, sizeof worker->path, "/proc/%s/stat", link);
    atomic_store(&worker->is_begun, true);
    CHECK(!ab_worker_wait(worker->batcher, true));
    return NULL;
}

static bool
is_asleep(void *context)
{
    struct worker *worker = context;
    if (!atomic_load(&worker->is_begun)) {
        return false;
    }
    FILE *file = fopen(worker->path, "r");
    char state = 'S'; // where nobody can tell
    if (file != NULL) {
        if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) {
            state = '?';
        }
        fclose(file);
    }
    return state == 'S';
}

static bool
keeps_no_time(void *context)
{
    struct ab_batcher *batcher = context;
    ab_mutex_lock(&batcher->mutex);
    bool answer = batcher->synced_data.unarmed_ns == AB_NEVER;
    ab_mutex_unlock(&batcher->mutex);
    return answer;
}

static void
time_kept_by_a_worker_that_finds_work_is_kept_by_another(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 0);
    limits_of(&world)->window_ns = 10 * MS;
    // This thread is one, and is about to wait; the other waits.
    world.batcher->synced_data.workers = 2;
    world.batcher->synced_data.idle_workers = 2;
    struct worker worker = {.batcher = world.batcher};
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, wait_for_work, &worker) == 0);
    refuse_threads(true);
    CHECK(push_items(&world, -1, 1, 1, 1) == AB_OK);
    CHECK(comes_true(is_asleep, &worker));
    ab_clock_advance(10 * MS); // nobody wakes of that
    ab_mutex_lock(&world.batcher->mutex);
    world.batcher->synced_data.hint = AB_HINT_GIVEN; // to this one
    ab_mutex_unlock(&world.batcher->mutex);
    CHECK(ab_worker_wait(world.batcher, true));
    CHECK(comes_true(keeps_no_time, world.batcher));
    serve_all(&world, -1);
    CHECK_EQUAL(world.told_count, 1);
    begin_drain(&world, -1);
    CHECK(!ab_worker_wait(world.batcher, false));
    pthread_join(thread, NULL);
    refuse_threads(false);
    world_close(&world);
}

static void
what_needs_no_time_needs_no_thread(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 2);
    refuse_threads(true);
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    CHECK(push_items(&world, 1, 3, 2, 1) == AB_OK);
    CHECK_EQUAL(world.runs, 1);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 4);
    refuse_threads(false);
    world_close(&world);
}

static void
cut_without_memory_or_thread_is_made_up_for_by_the_next_caller(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    CHECK(push_items(&world, 0, 1, 1, 1) == AB_OK);
    struct ab_todo todo = {0};
    struct ab_batch *batch;
    struct ab_link *link = link_of(&world, 0);
    refuse_threads(true);
    fail_allocation_after(0);
    CHECK(ab_batch_cut(world.batcher, link, &batch, &todo) == AB_NO_MEMORY);
    fail_allocation_after(-1);
    carry_out(&world, &todo);
    CHECK(push_items(&world, 0, 2, 1, 1) == AB_OK);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 2);
    refuse_threads(false);
    world_close(&world);
}

static void
without_a_thread_nobody_is_asked_to_yield(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    refuse_threads(true);
    ab_yield_begin();
    world.loops[1] = open_loop();
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(world.loops[i]->timer.slot, 0);
        CHECK_EQUAL(world.loops[i]->refs.value, 1);
    }
    ab_yield_answered(world.loops[0], MS);
    CHECK_EQUAL(world.loops[0]->refs.value, 1);
    ab_yield_end();
    refuse_threads(false);
    ab_yield_begin(); // the next batch asks
    advance_clock(2 * MS);
    CHECK(comes_true(has_mail, world.loops[0]));
    CHECK(comes_true(has_mail, world.loops[1]));
    ab_yield_end();
    world_close(&world);
}

const struct test thread_tests[] = {
    TEST(arming_without_a_thread_arms_nothing),
    TEST(signals_are_not_blocked_by_a_failure),
    TEST(loop_keeps_the_time_itself),
    TEST(next_window_is_kept_by_the_thread_once_there_is_one),
    TEST(idle_worker_keeps_the_time_itself),
    TEST(time_kept_by_a_worker_that_finds_work_is_kept_by_another),
    TEST(what_needs_no_time_needs_no_thread),
    TEST(cut_without_memory_or_thread_is_made_up_for_by_the_next_caller),
    TEST(without_a_thread_nobody_is_asked_to_yield),
    TESTS_END,
};
