/* Forks: whoever holds a lock of the core at that moment is waited for, and
 * the child finds all of them free, and nothing of its parent's work.
 */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "core/crew.h"
#include "core/outbox.h"
#include "core/registry.h"

#include "world.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_bool is_forking, has_forked; // the main thread

/* Run `body` in a forked child; its failed checks fail the test. */
static void
in_child(void (*body)(struct world *), struct world *world)
{
    atomic_store(&is_forking, true);
    pid_t child = fork();
    if (child == 0) {
        alarm(20 * slowness());
        body(world);
        if (!check_failed()) {
            // No leak check, then: what was the parent's leaks here, as it
            // must.
            kill(getpid(), SIGKILL);
        }
        _exit(1);
    }
    atomic_store(&has_forked, true);
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, SIGKILL);
}

/* Push, arm, post, cut and settle: each lock is taken by somebody. */
static void
serve_a_window(struct world *world, int loop)
{
    CHECK(push_items(world, loop, 50, 2, 1) == AB_OK);
    CHECK(!is_readable(world->loops[loop]));
    CHECK(cut_batch(world, loop) == NULL); // the window has not ended
    advance_clock(10 * MS);
    CHECK(comes_true(has_mail, world->loops[loop]));
    struct ab_batch *batch = cut_batch(world, loop);
    if (CHECK(batch != NULL)) {
        settle_batch(world, batch);
        world->told_count = 0;
        CHECK_EQUAL(tell_all(world), 2);
        CHECK(world->told[0].waiter == thing(50));
    }
}

static void
serve_in_child(struct world *world)
{
    CHECK_EQUAL(world->batcher->synced_data.outstanding, 0);
    CHECK_EQUAL(world->batcher->synced_data.running, 0);
    CHECK_EQUAL(world->batcher->synced_data.workers, 0);
    CHECK_EQUAL(world->batcher->synced_data.queue.length, 0);
    // The parent's loop is not the child's; a new one serves.
    world->loops[0] = open_loop();
    serve_a_window(world, 0); // the timer thread is the child's own
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

static void
end_telling_in_child(struct world *world)
{
    // The first of two that were told forked.
    struct ab_link *link = world->batcher->object;
    struct ab_parcel parcel;
    struct ab_told told = {.completed = 1};
    struct ab_todo todo = {0};
    ab_link_told(link, &told, &todo);
    CHECK_EQUAL(todo.refs, 0);
    CHECK_EQUAL(ab_link_take(link, &parcel, 1), 0);
    serve_in_child(world);
}

static void
caller_that_forks_as_it_is_told_is_the_parents(void)
{
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = 10 * MS;
    CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
    advance_clock(10 * MS);
    struct ab_batch *batch = cut_batch(&world, 0);
    REQUIRE(batch != NULL);
    settle_batch(&world, batch);
    struct ab_link *link = link_of(&world, 0);
    struct ab_parcel parcel;
    CHECK_EQUAL(ab_link_take(link, &parcel, 1), 1);
    struct ab_told told = {.completed = 1};
    struct ab_todo todo = {0};
    ab_link_count(link, &told);
    world.batcher->object = link;
    in_child(end_telling_in_child, &world);
    ab_link_told(link, &told, &todo);
    carry_out(&world, &todo);
    CHECK_EQUAL(tell_all(&world), 1);
    world_close(&world);
}

static void
come_back_in_child(struct world *world)
{
    struct ab_batcher *batcher = world->batcher;
    settle_batch(world, batcher->object); // of the parent's
    CHECK(push_items(world, -1, 50, 1, 1) == AB_OK);
    CHECK_EQUAL(world->starts, 2);
    CHECK(ab_worker_wait(batcher, true));
    struct ab_batch *batch = cut_batch(world, -1);
    REQUIRE(batch != NULL);
    settle_batch(world, batch);
    begin_drain(world, -1);
    CHECK(watch_idle(world, -1, 9) == AB_OK);
    CHECK(!ab_worker_wait(batcher, false)); // the one that forked
    CHECK(!ab_worker_wait(batcher, false)); // the child's own
    CHECK_EQUAL(batcher->synced_data.workers, 0);
    CHECK_EQUAL(batcher->synced_data.idle_workers, 0);
    CHECK_EQUAL(tell_all(world), 2); // the stop is over
}

static void
worker_that_forked_comes_back_in_the_child_and_leaves(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 0);
    CHECK(push_items(&world, -1, 1, 1, 1) == AB_OK);
    CHECK(ab_worker_wait(world.batcher, true));
    struct ab_batch *batch = cut_batch(&world, -1);
    REQUIRE(batch != NULL);
    world.batcher->object = batch;
    in_child(come_back_in_child, &world);
    settle_batch(&world, batch);
    CHECK_EQUAL(tell_all(&world), 1);
    world_close(&world);
}

/* ---- a fork while a batch forms: the destructor of a cancelled item ---- */

static void
go_on_in_child(struct world *world, size_t cancelled)
{
    struct ab_batch *batch = world->batcher->object;
    struct ab_todo todo = {0};
    for (size_t i = 0; i < cancelled; i++) {
        batch->entries[i].waiter = NULL;
    }
    world->loops[0] = open_loop();
    CHECK(push_items(world, 0, 60, 1, 1) == AB_OK); // none of that batch's
    CHECK_EQUAL(ab_batch_fill(batch, SIZE_MAX, &todo), 0);
    CHECK(!ab_batch_start(batch, &todo));
    CHECK_EQUAL(todo.refs, 0);
    CHECK_EQUAL(world->batcher->synced_data.outstanding, 1);
    CHECK_EQUAL(world->batcher->synced_data.running, 0);
    CHECK_EQUAL(world->batcher->synced_data.pending_links, 1);
    CHECK_EQUAL(world->batcher->synced_data.meter.cancelled, 0);
    CHECK_EQUAL(world->batcher->synced_data.meter.batches, 0);
    flush_queue(world, 0);
    serve_all(world, 0);
    CHECK_EQUAL(world->told_count, 1);
    CHECK(world->told[0].waiter == thing(60));
    CHECK_EQUAL(world->batcher->synced_data.outstanding, 0);
}

static void
form_in_child(struct world *world)
{
    CHECK(!ab_batch_formed(world->batcher->object, 0));
}

static void
lose_one_in_child(struct world *world)
{
    go_on_in_child(world, 1);
}

static void
lose_both_in_child(struct world *world)
{
    go_on_in_child(world, 2);
}

static void
batch_that_forms_at_a_fork_is_none_of_the_childs(void)
{
    void (*const bodies[])(struct world *) = {lose_one_in_child,
                                              lose_both_in_child};
    for (size_t i = 0; i < 2; i++) {
        struct world world;
        struct ab_batch *batch;
        struct ab_todo todo = {0};
        world_open(&world, AB_HOST_LOOP, 1);
        limits_of(&world)->window_ns = 10 * MS;
        limits_of(&world)->max_batch_size = 3;
        CHECK(push_items(&world, 0, 1, 2, 1) == AB_OK);
        flush_queue(&world, 0);
        CHECK(ab_batch_cut(world.batcher, link_of(&world, 0), &batch, &todo) ==
              AB_OK);
        REQUIRE(batch != NULL);
        CHECK_EQUAL(ab_batch_fill(batch, SIZE_MAX, &todo), 2);
        world.batcher->object = batch;
        in_child(bodies[i], &world);
        CHECK(ab_batch_start(batch, &todo)); // the parent noticed nothing
        in_child(form_in_child, &world);
        CHECK(ab_batch_formed(batch, 0));
        carry_out(&world, &todo);
        settle_batch(&world, batch);
        CHECK_EQUAL(tell_all(&world), 2);
        world_close(&world);
    }
}

/* ---- somebody holds a lock as the main thread forks ---- */

static int stat_fd; // of the whole process

struct holder {
    struct ab_timer timer;
    struct ab_mutex *mutex; // NULL: the aggregator's own
    atomic_bool holds, lets_go, is_over;
};

/* The process's state is that of its main thread.  Nothing is allocated here:
 * the lock of a sanitizer's allocator, held at a fork, is held in the child
 * for good. */
static bool
main_thread_sleeps(void)
{
    char text[256] = "";
    if (pread(stat_fd, text, sizeof text - 1, 0) <= 0) {
        return true; // where nobody can tell
    }
    const char *state = strrchr(text, ')'); // the end of the program's name
    return state != NULL && strncmp(state, ") S", 3) == 0;
}

/* While it forks nothing but a lock makes the main thread sleep.  A lock that
 * it does not wait for is held until the fork is over. */
static void
wait_until_main_waits(struct holder *holder)
{
    struct timespec turn = {0, 50000};
    atomic_store(&holder->holds, true);
    while (!atomic_load(&is_forking) ||
           !(main_thread_sleeps() || atomic_load(&has_forked))) {
        nanosleep(&turn, NULL);
    }
    atomic_store(&holder->lets_go, true);
}

/* On the aggregation thread, which holds no lock when it fires. */
static void
hold_mutex(struct ab_timer *timer)
{
    struct holder *holder = (struct holder *)timer;
    if (holder->mutex != NULL) {
        ab_mutex_lock(holder->mutex);
        wait_until_main_waits(holder);
        ab_mutex_unlock(holder->mutex);
    }
    atomic_store(&holder->is_over, true);
}

/* Inside the aggregator's mutex: there a timer takes its count. */
static void
hold_aggregator(struct ab_timer *timer)
{
    struct holder *holder = (struct holder *)timer;
    if (holder->mutex == NULL) {
        wait_until_main_waits(holder);
    }
}

/* A thread that ends calls the allocator: not while the main thread forks. */
static void *
arm_holder(void *holder)
{
    struct timespec turn = {0, 50000};
    CHECK(ab_aggregator_arm(holder, ab_clock_now_ns()) == AB_OK);
    while (!atomic_load(&has_forked)) {
        nanosleep(&turn, NULL);
    }
    return NULL;
}

static bool
is_held(void *holder)
{
    return atomic_load(&((struct holder *)holder)->holds);
}

static bool
is_over(void *holder)
{
    return atomic_load(&((struct holder *)holder)->is_over);
}

static bool
is_free(struct ab_mutex *mutex)
{
    if (pthread_mutex_trylock(&mutex->impl) != 0) {
        return false;
    }
    pthread_mutex_unlock(&mutex->impl);
    return true;
}

static void
serve_beside_holder(struct world *world)
{
    struct holder *holder = world->batcher->object;
    REQUIRE(atomic_load(&holder->lets_go)); // or nobody waited for it
    REQUIRE(is_free(&ab_registry.mutex));
    REQUIRE(is_free(&world->batcher->mutex));
    REQUIRE(is_free(&world->loops[0]->mutex));
    serve_in_child(world);
}

static void
fork_while_held(struct world *world, struct ab_mutex *mutex)
{
    struct holder holder = {.timer = {.fire = hold_mutex,
                                      .acquire = hold_aggregator,
                                      .release = hold_aggregator},
                            .mutex = mutex};
    pthread_t thread;
    world->batcher->object = &holder;
    atomic_store(&is_forking, false);
    atomic_store(&has_forked, false);
    REQUIRE(pthread_create(&thread, NULL, arm_holder, &holder) == 0);
    if (CHECK(comes_true(is_held, &holder))) {
        in_child(serve_beside_holder, world);
    }
    pthread_join(thread, NULL);
    CHECK(comes_true(is_over, &holder));
    serve_a_window(world, 0); // the parent finds its locks free, too
}

/* A fork waits for the holder of that lock, AB_FORKS times. */
static void
fork_often_while_held(struct ab_mutex *(*choose)(struct world *))
{
    const char *text = getenv("AB_FORKS");
    long forks = text != NULL ? strtol(text, NULL, 10) : 20;
    struct world world;
    world_open(&world, AB_HOST_LOOP, 1);
    limits_of(&world)->window_ns = 10 * MS;
    stat_fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    REQUIRE(ab_aggregator_reserve(true) == AB_OK); // the thread lasts
    while (forks-- > 0 && !check_failed()) {
        fork_while_held(&world, choose(&world));
    }
    ab_aggregator_unreserve(true);
    (void)close(stat_fd);
    world_close(&world);
}

static struct ab_mutex *
of_registry(struct world *world)
{
    (void)world;
    return &ab_registry.mutex;
}

static struct ab_mutex *
of_batcher(struct world *world)
{
    return &world->batcher->mutex;
}

static struct ab_mutex *
of_mailbox(struct world *world)
{
    return &world->loops[0]->mutex;
}

static struct ab_mutex *
of_aggregator(struct world *world)
{
    (void)world;
    return NULL; // nobody else can name it
}

static void
fork_waits_for_the_holder_of_the_registry(void)
{
    fork_often_while_held(of_registry);
}

static void
fork_waits_for_the_holder_of_a_batcher(void)
{
    fork_often_while_held(of_batcher);
}

static void
fork_waits_for_the_holder_of_a_mailbox(void)
{
    fork_often_while_held(of_mailbox);
}

static void
fork_waits_for_the_holder_of_the_aggregator(void)
{
    fork_often_while_held(of_aggregator);
}

const struct test fork_tests[] = {
    TEST(child_of_a_fork_starts_empty_and_serves_anew),
    TEST(child_of_a_fork_may_leave_at_once),
    TEST(batch_that_forked_may_be_settled_in_the_child),
    TEST(caller_that_forks_as_it_is_told_is_the_parents),
    TEST(worker_that_forked_comes_back_in_the_child_and_leaves),
    TEST(batch_that_forms_at_a_fork_is_none_of_the_childs),
    TEST(fork_waits_for_the_holder_of_the_registry),
    TEST(fork_waits_for_the_holder_of_a_batcher),
    TEST(fork_waits_for_the_holder_of_a_mailbox),
    TEST(fork_waits_for_the_holder_of_the_aggregator),
    TESTS_END,
};
