/* Long runs of arbitrary calls, checked against what must always hold: every
 * waiter is told once, in the order in which it came to its loop; batches
 * keep their limits, permits theirs; loops come and go, limits change; at
 * the end nothing is left.
 */
#include "core/crew.h"
#include "core/intake.h"
#include "play.h"

#include <stdlib.h>
#include <string.h>

static void
step_rarely(struct play *play)
{
    switch (roll(&play->dice, 12)) {
    case 0:
        play_close(play);
        break;
    case 1:
    case 2:
        play_open(play);
        break;
    case 3:
        if (roll(&play->dice, 4) == 0) {
            play_abort(play);
        }
        break;
    case 4:
        play_limits(play);
        break;
    case 5:
        play_watch(play);
        break;
    case 6:
        play_move_home(play);
        break;
    case 7:
        look(&play->world, any_loop(play));
        break;
    case 8:
        ab_batcher_alert_loops(play->world.batcher,
                               loop_of(&play->world, any_loop(play)));
        break;
    default:
        flush_queue(&play->world, any_loop(play));
        break;
    }
}

static void
step(struct play *play)
{
    switch (roll(&play->dice, 16)) {
    case 0:
        play_cancel(play);
        break;
    case 1:
        play_withdraw(play);
        break;
    case 2:
        play_submit(play);
        break;
    case 3:
        step_rarely(play);
        break;
    case 4:
    case 5:
        play_tell(play);
        break;
    case 6:
        advance_clock((int64_t)roll(&play->dice, 8) * MS);
        break;
    case 7:
    case 8:
    case 9:
        play_settle(play);
        break;
    case 10:
    case 11:
    case 12:
        play_cut(play);
        break;
    default:
        play_push(play);
        break;
    }
}

static void
check_state(struct play *play)
{
    struct ab_batcher *batcher = play->world.batcher;
    ab_mutex_lock(&batcher->mutex);
    size_t running = 0, hosted = 0, pending = 0;
    for (size_t i = 0; i < play->running_count; i++) {
        running += play->running[i]->is_running;
        hosted += play->running[i]->host != NULL;
    }
    CHECK_EQUAL(batcher->synced_data.running, running);
    for (struct ab_link *link = batcher->synced_data.links; link != NULL;
         link = link->synced_data.next) {
        pending += link->synced_data.pending;
    }
    // A batch counts for the loop that runs it as for its permit.
    size_t untold = play->watchers - play->watchers_told;
    CHECK_EQUAL(pending,
                batcher->synced_data.outstanding - running + hosted + untold);
    CHECK_EQUAL(play->world.refs, batcher->synced_data.pending_links);
    CHECK(batcher->synced_data.queue.length <= play->queue_most);
    ab_mutex_unlock(&batcher->mutex);
}

static void
open_play(struct play *play, uint64_t seed, enum ab_host host)
{
    memset(play, 0, sizeof *play);
    play->dice.state = seed;
    play->next = 1;
    world_open(&play->world, host, WORLD_LOOPS);
    play_limits(play);
}

/* Serve all that is left, on one loop at least. */
static void
finish_play(struct play *play)
{
    play_open(play);
    begin_drain(&play->world, any_open_loop(play));
    for (int i = 0; i < 20000 && !check_failed(); i++) {
        if (play->world.batcher->synced_data.outstanding == 0 &&
            play->running_count == 0) {
            break;
        }
        play_cut(play);
        play_settle(play);
        play_tell(play);
        if (any_open_loop(play) < 0) {
            play_open(play); // closed while a batch was formed
        }
    }
    while (play->world.batcher->synced_data.workers > 0 && !check_failed()) {
        CHECK(!ab_worker_wait(play->world.batcher, true)); // it leaves
    }
    play_tell(play);
}

static void
run_play(struct play *play, uint64_t seed, enum ab_host host)
{
    open_play(play, seed, host);
    for (int i = 0; i < 3000 && !check_failed(); i++) {
        step(play);
        check_state(play);
    }
    finish_play(play);
    for (size_t i = 1; i < play->next && !check_failed(); i++) {
        CHECK(play->states[i] == TOLD || play->states[i] == GONE);
        CHECK(play->pairs[i] == 0 || play->is_space_told[i]);
    }
    CHECK_EQUAL(play->watchers_told, play->watchers);
    const struct ab_meter *meter = &play->world.batcher->synced_data.meter;
    CHECK_EQUAL(meter->submitted,
                meter->completed + meter->failed + meter->cancelled);
    world_close(&play->world);
}

static void
run_plays(enum ab_host host)
{
    struct play *play = malloc(sizeof *play);
    REQUIRE(play != NULL);
    for (uint64_t seed = 1; seed <= 60 && !check_failed(); seed++) {
        run_play(play, seed * 7919, host);
        if (check_failed()) {
            CHECK_EQUAL(seed, 0); // names the seed
        }
    }
    free(play);
}

static void
arbitrary_calls_lose_nobody_where_loops_host(void)
{
    run_plays(AB_HOST_LOOP);
}

static void
arbitrary_calls_lose_nobody_where_an_executor_runs(void)
{
    run_plays(AB_HOST_EXECUTOR);
}

static void
arbitrary_calls_lose_nobody_where_workers_host(void)
{
    run_plays(AB_HOST_WORKER);
}

const struct test model_tests[] = {
    TEST(arbitrary_calls_lose_nobody_where_loops_host),
    TEST(arbitrary_calls_lose_nobody_where_an_executor_runs),
    TEST(arbitrary_calls_lose_nobody_where_workers_host),
    TESTS_END,
};
