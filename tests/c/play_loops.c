#include "core/intake.h"
#include "core/leave.h"
#include "core/outbox.h"
#include "play.h"

int
any_open_loop(struct play *play)
{
    int loop = (int)roll(&play->dice, WORLD_LOOPS);
    for (int i = 0; i < WORLD_LOOPS; i++) {
        int other = (loop + i) % WORLD_LOOPS;
        if (play->world.loops[other] != NULL) {
            return other;
        }
    }
    return -1;
}

int
any_loop(struct play *play)
{
    return roll(&play->dice, WORLD_LOOPS + 1) == 0 ? -1 : any_open_loop(play);
}

static void
mark_batch_lost(struct play *play, const struct ab_batch *batch, int loop)
{
    if (batch == NULL || batch->is_settled || batch->host == NULL ||
        batch->host->mailbox != play->world.loops[loop]) {
        return;
    }
    for (size_t i = 0; i < batch->length; i++) {
        size_t waiter = (size_t)(uintptr_t)batch->entries[i].waiter;
        if (waiter != 0) {
            play->states[waiter] = REFUSED;
        }
    }
}

/* Whoever waits for `loop` is let go, and who has its batch there fails. */
static void
mark_lost(struct play *play, int loop)
{
    for (size_t i = 1; i < play->next; i++) {
        enum state *state = &play->states[i];
        if (play->loops[i] == loop &&
            (*state == QUEUED || *state == WAITING || *state == REFUSED)) {
            *state = DEAD;
        }
    }
    for (size_t i = 0; i < play->running_count; i++) {
        mark_batch_lost(play, play->running[i], loop);
    }
    mark_batch_lost(play, play->paused, loop);
}

void
play_close(struct play *play)
{
    int loop = any_open_loop(play);
    if (loop < 0) {
        return;
    }
    play_tell(play); // so that few are told in between
    mark_lost(play, loop);
    close_loop(&play->world, loop);
    struct ab_batcher *batcher = play->world.batcher;
    ab_mutex_lock(&batcher->mutex); // a timer may look for another home
    if (batcher->synced_data.home == NULL) {
        play->stranded = play->next;
    }
    ab_mutex_unlock(&batcher->mutex);
    play_tell(play);
}

void
play_open(struct play *play)
{
    for (int i = 0; i < WORLD_LOOPS; i++) {
        if (play->world.loops[i] == NULL) {
            struct ab_mailbox **loop = &play->world.loops[i];
            bool wants_fd = roll(&play->dice, 4) != 0;
            CHECK(ab_mailbox_new(loop, wants_fd) == AB_OK);
            atomic_store(&(*loop)->loop, *loop);
            return;
        }
    }
}

void
play_abort(struct play *play)
{
    play->was_aborted = true;
    play_tell(play);
    for (size_t i = 1; i < play->next; i++) {
        enum state *state = &play->states[i];
        if (*state == QUEUED || *state == WAITING || *state == CUT) {
            *state = REFUSED;
        }
    }
    refuse(&play->world, NULL,
           AB_COLLECT_QUEUE | AB_COLLECT_BACKLOG | AB_COLLECT_RUNNING);
    ab_batcher_tell_watchers(play->world.batcher);
    play_tell(play);
}

void
play_limits(struct play *play)
{
    struct dice *dice = &play->dice;
    struct ab_batcher *batcher = play->world.batcher;
    struct ab_limits limits = {
        .max_batch_size = 1 + (int64_t)roll(dice, 8),
        .max_batch_cost = 1 + (int64_t)roll(dice, 30),
        .max_queue_size = 4 + (int64_t)roll(dice, 40),
        .max_queue_cost = 20 + (int64_t)roll(dice, 99),
        .concurrency = 1 + (int64_t)roll(dice, 4),
        .window_ns = (int64_t)roll(dice, 3) * MS,
        .prefetch_batches = (int64_t)roll(dice, 3),
    };
    if (play->is_forming) {
        return; // it would be measured by limits it was not cut by
    }
    size_t most = (size_t)limits.max_queue_size;
    if (limits.prefetch_batches > 0) {
        most +=
            (size_t)((limits.prefetch_batches + 1) * limits.max_batch_size);
    }
    ab_mutex_lock(&batcher->mutex);
    ab_batcher_set_limits_locked(batcher, &limits);
    ab_mutex_unlock(&batcher->mutex);
    ab_mutex_lock(&batcher->mutex);
    play->queue_most = batcher->synced_data.queue.length;
    ab_mutex_unlock(&batcher->mutex);
    if (play->queue_most < most) {
        play->queue_most = most;
    }
    look(&play->world, any_loop(play));
}

void
play_move_home(struct play *play)
{
    int loop = any_open_loop(play);
    if (loop >= 0 && link_of(&play->world, loop) != NULL) {
        ab_batcher_move_home(play->world.batcher, loop_of(&play->world, loop));
        look(&play->world, loop);
    }
}
