/* Real threads as workers: nothing is lost between them, and all leave. */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "core/crew.h"
#include "core/intake.h"
#include "core/outbox.h"
#include "world.h"

#include <pthread.h>
#include <sched.h>

#define PUSHERS 4
#define ITEMS_EACH 2000
#define ITEMS (PUSHERS * ITEMS_EACH)

struct crew {
    struct ab_batcher *batcher;
    atomic_size_t told[ITEMS];
    atomic_size_t batches, sum, left;
    atomic_size_t running, most_running;
    size_t max_batch_size;
};

static void
tell_crew(struct crew *crew)
{
    struct ab_mailbox *wake;
    struct ab_link *link;
    struct ab_parcel parcels[16];
    size_t count;
    while ((count = ab_batcher_take_stray(crew->batcher, parcels, 16, &link,
                                          &wake)) > 0) {
        struct ab_told told = {.completed = count};
        struct ab_todo todo = {0};
        for (size_t i = 0; i < count; i++) {
            size_t number = (size_t)(uintptr_t)parcels[i].waiter;
            CHECK(parcels[i].value == thing(number + ITEMS));
            atomic_fetch_add(&crew->told[number - 1], 1);
        }
        ab_link_count(link, &told);
        ab_link_told(link, &told, &todo);
        CHECK(todo.wake == NULL);
    }
}

static void
run_batch(struct crew *crew)
{
    struct ab_todo todo = {0};
    struct ab_batch *batch;
    CHECK(ab_batch_cut(crew->batcher, NULL, &batch, &todo) == AB_OK);
    if (batch == NULL) {
        return;
    }
    (void)ab_batch_fill(batch, SIZE_MAX,
                        &todo); // nobody is cancelled: once is enough
    if (!ab_batch_start(batch, &todo)) {
        return;
    }
    CHECK(ab_batch_formed(batch, 0));
    size_t running = atomic_fetch_add(&crew->running, 1) + 1;
    CHECK(running <= 2);
    CHECK(batch->length <= crew->max_batch_size);
    atomic_fetch_add(&crew->batches, 1);
    atomic_fetch_add(&crew->sum, batch->length);
    for (size_t i = 0; i < batch->length; i++) {
        void *row = thing((size_t)(uintptr_t)batch->entries[i].value + ITEMS);
        ab_batch_store(batch, i, &row, 1);
    }
    atomic_fetch_sub(&crew->running, 1);
    ab_batch_settle(batch, false, NULL, &todo);
    ab_batch_let_go(batch);
    tell_crew(crew);
}

static void *
work(void *context)
{
    struct crew *crew = context;
    for (bool is_new = true; ab_worker_wait(crew->batcher, is_new);
         is_new = false) {
        run_batch(crew);
    }
    struct ab_batcher *batcher = crew->batcher;
    atomic_fetch_add(&crew->left, 1);
    ab_batcher_release(batcher);
    return NULL;
}

struct pusher {
    struct crew *crew;
    size_t first;
};

static void *
push_all(void *context)
{
    struct pusher *pusher = context;
    for (size_t i = 0; i < ITEMS_EACH; i++) {
        struct ab_todo todo = {0};
        struct ab_entry entry = {.value = thing(pusher->first + i),
                                 .waiter = thing(pusher->first + i),
                                 .cost = 1};
        CHECK(ab_batcher_push(pusher->crew->batcher, NULL, &entry, 1, &todo) ==
              AB_OK);
        CHECK(!todo.start_worker); // two are there from the start
        if (i % 64 == 0) {
            sched_yield();
        }
    }
    return NULL;
}

static struct crew crew;

static void
crew_open(int64_t window_ns, size_t workers, pthread_t *threads)
{
    crew = (struct crew){.max_batch_size = 32};
    CHECK(ab_batcher_new(&crew.batcher, NULL) == AB_OK);
    const struct ab_limits limits = {
        .max_batch_size = 32,
        .max_batch_cost = AB_UNLIMITED,
        .max_queue_size = AB_UNLIMITED,
        .max_queue_cost = AB_UNLIMITED,
        .concurrency = 2,
        .window_ns = window_ns,
    };
    ab_mutex_lock(&crew.batcher->mutex);
    ab_batcher_set_limits_locked(crew.batcher, &limits);
    ab_mutex_unlock(&crew.batcher->mutex);
    crew.batcher->synced_data.host = AB_HOST_WORKER;
    crew.batcher->synced_data.max_workers = workers;
    crew.batcher->synced_data.workers = workers;
    crew.batcher->synced_data.idle_workers = workers;
    CHECK(ab_batcher_link(crew.batcher, NULL) == AB_OK);
    for (size_t i = 0; i < workers; i++) {
        ab_batcher_acquire(crew.batcher);
        CHECK(pthread_create(&threads[i], NULL, work, &crew) == 0);
    }
}

static void
every_item_of_four_threads_is_told_once(void)
{
    pthread_t workers[2], pushers[PUSHERS];
    struct pusher contexts[PUSHERS];
    crew_open(100000, 2, workers);
    for (size_t i = 0; i < PUSHERS; i++) {
        contexts[i] = (struct pusher){&crew, 1 + i * ITEMS_EACH};
        REQUIRE(pthread_create(&pushers[i], NULL, push_all, &contexts[i]) ==
                0);
    }
    for (size_t i = 0; i < PUSHERS; i++) {
        pthread_join(pushers[i], NULL);
    }
    struct ab_todo todo = {0};
    ab_batcher_begin_drain(crew.batcher, NULL, &todo);
    for (size_t i = 0; i < 2; i++) {
        pthread_join(workers[i], NULL); // they leave when all is told
    }
    size_t wrong = 0;
    for (size_t i = 0; i < ITEMS; i++) {
        wrong += crew.told[i] != 1;
    }
    CHECK_EQUAL(wrong, 0);
    CHECK_EQUAL(crew.sum, ITEMS);
    CHECK_EQUAL(crew.batcher->synced_data.outstanding, 0);
    CHECK_EQUAL(crew.batcher->synced_data.workers, 0);
    CHECK_EQUAL(crew.batcher->synced_data.idle_workers, 0);
    CHECK_EQUAL(crew.batcher->synced_data.meter.completed, ITEMS);
    ab_batcher_orphan(crew.batcher);
}

static void
one_worker_serves_all_though_nobody_pushes_again(void)
{
    pthread_t worker;
    struct pusher pusher = {&crew, 1};
    crew_open(100000, 1, &worker);
    (void)push_all(&pusher);
    // Nothing is drained: the timer and the worker must finish it alone.
    struct ab_mutex *mutex = &crew.batcher->mutex;
    for (bool is_done = false; !is_done; sched_yield()) {
        ab_mutex_lock(mutex);
        is_done = crew.batcher->synced_data.outstanding == 0;
        ab_mutex_unlock(mutex);
    }
    CHECK_EQUAL(crew.sum, ITEMS_EACH);
    ab_batcher_orphan(crew.batcher);
    pthread_join(worker, NULL);
}

static void
waiting_workers_leave_when_the_batcher_goes(void)
{
    pthread_t workers[3];
    crew_open(0, 3, workers);
    ab_batcher_orphan(crew.batcher);
    for (size_t i = 0; i < 3; i++) {
        pthread_join(workers[i], NULL);
    }
    CHECK_EQUAL(crew.left, 3);
}

static void
waiting_workers_leave_when_the_batcher_closes(void)
{
    pthread_t workers[3];
    struct ab_todo todo = {0};
    crew_open(0, 3, workers);
    ab_batcher_begin_drain(crew.batcher, NULL, &todo);
    for (size_t i = 0; i < 3; i++) {
        pthread_join(workers[i], NULL);
    }
    CHECK_EQUAL(crew.batcher->synced_data.workers, 0);
    ab_batcher_orphan(crew.batcher);
}

static void
all_workers_leave_at_the_end_of_the_interpreter(void)
{
    pthread_t workers[3];
    crew_open(0, 3, workers);
    CHECK(!ab_workers_are_quitting());
    ab_workers_quit();
    CHECK(ab_workers_are_quitting());
    for (size_t i = 0; i < 3; i++) {
        pthread_join(workers[i], NULL);
    }
    struct ab_todo todo = {0};
    struct ab_entry entry = {.value = thing(1), .waiter = thing(1)};
    CHECK(ab_batcher_push(crew.batcher, NULL, &entry, 1, &todo) ==
          AB_QUITTING);
    ab_workers_resume();
    CHECK(!ab_workers_are_quitting());
    ab_batcher_orphan(crew.batcher);
}

const struct test crew_tests[] = {
    TEST(every_item_of_four_threads_is_told_once),
    TEST(one_worker_serves_all_though_nobody_pushes_again),
    TEST(waiting_workers_leave_when_the_batcher_goes),
    TEST(waiting_workers_leave_when_the_batcher_closes),
    TEST(all_workers_leave_at_the_end_of_the_interpreter),
    TESTS_END,
};
