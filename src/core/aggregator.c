#include "core/aggregator.h"

#include "core/clock.h"
#include "core/sync.h"

static struct {
    struct ab_mutex mutex;
    struct ab_cond wakeup; // the top of the heap changed, or the clock moved
    bool is_initialized;
    struct {
        struct ab_timer **heap; // by due_ns, the earliest first
        size_t length, capacity, reserved;
        size_t users;    // reservations that keep the thread
        bool is_running; // a thread exists
    } synced_data;
} aggregator = {
#ifdef _WIN32
    .mutex = {SRWLOCK_INIT},
#else
    .mutex = {PTHREAD_MUTEX_INITIALIZER},
#endif
};

static void
place(struct ab_timer *timer, size_t at)
{
    aggregator.synced_data.heap[at] = timer;
    timer->slot = at + 1;
}

static void
sift_up(struct ab_timer *timer, size_t at)
{
    struct ab_timer **heap = aggregator.synced_data.heap;
    while (at > 0 && heap[(at - 1) / 2]->due_ns > timer->due_ns) {
        place(heap[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    place(timer, at);
}

static void
sift_down(struct ab_timer *timer, size_t at)
{
    struct ab_timer **heap = aggregator.synced_data.heap;
    size_t length = aggregator.synced_data.length;
    for (size_t child; (child = 2 * at + 1) < length; at = child) {
        if (child + 1 < length &&
            heap[child + 1]->due_ns < heap[child]->due_ns) {
            child++;
        }
        if (heap[child]->due_ns >= timer->due_ns) {
            break;
        }
        place(heap[child], at);
    }
    place(timer, at);
}

static void
take_out(struct ab_timer *timer)
{
    size_t at = timer->slot - 1;
    struct ab_timer *last =
        aggregator.synced_data.heap[--aggregator.synced_data.length];
    if (last != timer) {
        place(last, at);
        sift_up(last, at);
        sift_down(last, last->slot - 1);
    }
    timer->slot = 0;
}

static void
sleep_until_due(void) AB_REQUIRES(aggregator.mutex)
{
    int64_t due_ns = aggregator.synced_data.length > 0
                         ? aggregator.synced_data.heap[0]->due_ns
                         : AB_NEVER;
    ab_cond_wait_for_due(&aggregator.wakeup, &aggregator.mutex, due_ns);
}

static void
thread_body(void)
{
    ab_mutex_lock(&aggregator.mutex);
    while (aggregator.synced_data.users > 0 ||
           aggregator.synced_data.length > 0) {
        bool is_last_round = aggregator.synced_data.users == 0;
        if (aggregator.synced_data.length == 0 ||
            (aggregator.synced_data.heap[0]->due_ns > ab_clock_now_ns() &&
             !is_last_round)) {
            sleep_until_due();
            continue;
        }
        struct ab_timer *timer = aggregator.synced_data.heap[0];
        take_out(timer);
        ab_mutex_unlock(&aggregator.mutex);
        timer->fire(timer);
        ab_mutex_lock(&aggregator.mutex);
    }
    aggregator.synced_data.is_running = false;
    ab_mutex_unlock(&aggregator.mutex);
}

enum ab_status
ab_aggregator_reserve(bool needs_thread)
{
    enum ab_status status = AB_OK;
    ab_mutex_lock(&aggregator.mutex);
    if (!aggregator.is_initialized) {
        ab_cond_init(&aggregator.wakeup);
        aggregator.is_initialized = true;
    }
    size_t reserved = aggregator.synced_data.reserved;
    if (reserved == aggregator.synced_data.capacity) {
        size_t capacity = reserved > 0 ? 2 * reserved : 8;
        struct ab_timer **heap =
            ab_resize(aggregator.synced_data.heap, capacity * sizeof *heap);
        if (heap == NULL) {
            status = AB_NO_MEMORY;
            goto done;
        }
        aggregator.synced_data.heap = heap;
        aggregator.synced_data.capacity = capacity;
    }
    aggregator.synced_data.reserved++;
    aggregator.synced_data.users += needs_thread;
done:
    ab_mutex_unlock(&aggregator.mutex);
    return status;
}

void
ab_aggregator_unreserve(bool needs_thread)
{
    ab_mutex_lock(&aggregator.mutex);
    AB_ASSERT(aggregator.synced_data.reserved > aggregator.synced_data.length);
    aggregator.synced_data.reserved--;
    aggregator.synced_data.users -= needs_thread;
    if (aggregator.synced_data.reserved == 0) {
        ab_release(aggregator.synced_data.heap);
        aggregator.synced_data.heap = NULL;
        aggregator.synced_data.capacity = 0;
    }
    if (aggregator.synced_data.users == 0 &&
        aggregator.synced_data.is_running) {
        ab_cond_signal(&aggregator.wakeup);
    }
    ab_mutex_unlock(&aggregator.mutex);
}

void
ab_aggregator_disarm(struct ab_timer *timer)
{
    ab_mutex_lock(&aggregator.mutex);
    bool was_armed = timer->slot != 0;
    if (was_armed) {
        take_out(timer);
    }
    ab_mutex_unlock(&aggregator.mutex);
    if (was_armed) {
        timer->release(timer);
    }
}

enum ab_status
ab_aggregator_arm(struct ab_timer *timer, int64_t due_ns)
{
    enum ab_status status = AB_OK;
    ab_mutex_lock(&aggregator.mutex);
    if (timer->slot != 0 && timer->due_ns <= due_ns) {
        goto done;
    }
    if (!aggregator.synced_data.is_running) {
        status = ab_thread_start(thread_body);
        if (status != AB_OK) {
            goto done;
        }
        aggregator.synced_data.is_running = true;
    }
    timer->due_ns = due_ns;
    if (timer->slot == 0) {
        timer->acquire(timer);
        sift_up(timer, aggregator.synced_data.length++);
    }
    else {
        sift_up(timer, timer->slot - 1);
    }
    if (timer->slot == 1) {
        ab_cond_signal(&aggregator.wakeup);
    }
done:
    ab_mutex_unlock(&aggregator.mutex);
    return status;
}

void
ab_aggregator_wake(void)
{
    ab_mutex_lock(&aggregator.mutex);
    if (aggregator.synced_data.is_running) {
        ab_cond_signal(&aggregator.wakeup);
    }
    ab_mutex_unlock(&aggregator.mutex);
}

void
ab_aggregator_before_fork(void)
{
    ab_mutex_lock(&aggregator.mutex);
}

void
ab_aggregator_after_fork_parent(void)
{
    ab_mutex_unlock(&aggregator.mutex);
}

void
ab_aggregator_after_fork_child(void)
{
    if (aggregator.is_initialized) {
        ab_cond_init(&aggregator.wakeup);
    }
    for (size_t i = 0; i < aggregator.synced_data.length; i++) {
        aggregator.synced_data.heap[i]->slot = 0;
    }
    aggregator.synced_data.length = 0;
    aggregator.synced_data.is_running = false;
    ab_mutex_unlock(&aggregator.mutex);
}
