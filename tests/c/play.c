#include "play.h"
#include "core/leave.h"
#include "core/outbox.h"

#define SPACE 100000 // the waiter of who waits for space, as world.c has it
#define WATCHER 200000

static size_t
number_of(const void *waiter)
{
    return (size_t)(uintptr_t)waiter;
}

static bool
is_waiting(const struct play *play, size_t waiter)
{
    return play->states[waiter] == QUEUED || play->states[waiter] == WAITING;
}

/* ---- coming and going ---- */

void
play_push(struct play *play)
{
    size_t count = 1 + roll(&play->dice, 6);
    int loop = any_loop(play);
    if (play->next + count > WAITERS) {
        return;
    }
    enum ab_status status = push_items(&play->world, loop, play->next, count,
                                       (int64_t)roll(&play->dice, 12));
    CHECK(status == AB_OK || status == AB_FULL || status == AB_CLOSED ||
          (status == AB_NO_HOST && loop < 0));
    for (size_t i = 0; i < count && status == AB_OK; i++, play->next++) {
        play->states[play->next] = QUEUED;
        play->loops[play->next] = loop;
    }
}

void
play_submit(struct play *play)
{
    int loop = any_loop(play);
    if (play->next >= WAITERS) {
        return;
    }
    size_t number = play->next;
    enum ab_status status =
        submit_item(&play->world, loop, number, (int64_t)roll(&play->dice, 12),
                    &play->pairs[number]);
    if (status == AB_OK) {
        play->states[number] = WAITING;
        play->loops[number] = loop;
        play->next++;
    }
}

void
play_cancel(struct play *play)
{
    struct ab_batcher *batcher = play->world.batcher;
    const struct ab_queue *queue = &batcher->synced_data.queue;
    ab_mutex_lock(&batcher->mutex); // a timer may look at the queue
    uint64_t number = queue->head_number;
    uint64_t span = queue->tail_number - number;
    ab_mutex_unlock(&batcher->mutex);
    number += roll(&play->dice, span + 1);
    struct ab_entry out;
    struct ab_todo todo = {0};
    if (ab_batcher_drop(batcher, &number, 1, &out, &todo) == 1) {
        CHECK(is_waiting(play, number_of(out.waiter)));
        play->states[number_of(out.waiter)] = GONE;
    }
    carry_out(&play->world, &todo);
}

void
play_withdraw(struct play *play)
{
    if (play->next == 1) {
        return;
    }
    size_t number = 1 + roll(&play->dice, play->next - 1);
    struct ab_entry out[2];
    struct ab_todo todo = {0};
    if (play->pairs[number] != 0 &&
        ab_batcher_withdraw(play->world.batcher, play->pairs[number], out,
                            &todo)) {
        CHECK(out[0].waiter == thing(number));
        CHECK(play->states[number] == WAITING);
        CHECK(!play->is_space_told[number]);
        play->states[number] = GONE;
        play->is_space_told[number] = true; // it never will be
    }
    carry_out(&play->world, &todo);
}

void
play_watch(struct play *play)
{
    size_t number = WATCHER + play->watchers;
    if (watch_idle(&play->world, any_loop(play), number) == AB_OK) {
        play->watchers++;
    }
}

/* ---- batches ---- */

/* Forget some of the new waiters, as a host does; the rest is in order. */
static size_t
look_through(struct play *play, struct ab_batch *batch, size_t from)
{
    size_t set_aside = 0;
    for (size_t i = from; i < batch->length; i++) {
        struct ab_entry *entry = &batch->entries[i];
        size_t waiter = number_of(entry->waiter);
        size_t *last = &play->cut_last[play->loops[waiter] + 1];
        CHECK(is_waiting(play, waiter));
        CHECK(waiter > *last);
        *last = waiter;
        play->states[waiter] = CUT;
        if (roll(&play->dice, 8) == 0) {
            play->states[waiter] = GONE;
            entry->waiter = entry->value = NULL;
            set_aside++;
        }
    }
    return set_aside;
}

/* What the host's own code brings about while it looks through a batch. */
static void
interrupt(struct play *play)
{
    switch (roll(&play->dice, 24)) {
    case 0:
        play_close(play);
        break;
    case 1:
        if (roll(&play->dice, 4) == 0) {
            play_abort(play);
        }
        break;
    case 2:
        play_cancel(play);
        break;
    case 3:
        play_settle(play);
        break;
    default:
        if (roll(&play->dice, 3) == 0) {
            play_push(play);
        }
        break;
    }
}

static void
mark(struct play *play, const struct ab_batch *batch, enum state state)
{
    for (size_t i = 0; i < batch->length; i++) {
        if (batch->entries[i].waiter != NULL) {
            play->states[number_of(batch->entries[i].waiter)] = state;
        }
    }
}

static void
check_limits(struct play *play, const struct ab_batch *batch)
{
    const struct ab_limits *limits = limits_of(&play->world);
    CHECK(batch->length >= 1);
    CHECK((int64_t)batch->length <= limits->max_batch_size);
    CHECK((int64_t)batch->cost.low <= limits->max_batch_cost ||
          batch->length == 1);
    CHECK((int64_t)play->world.batcher->synced_data.running <=
          limits->concurrency);
}

/* The batch is started: it runs, unless all of it was refused meanwhile. */
static void
take_over(struct play *play, struct ab_batch *batch)
{
    const struct ab_link *host = batch->host;
    check_limits(play, batch);
    CHECK(ab_batch_formed(batch, 0) == !play->was_aborted);
    bool is_lost = play->was_aborted ||
                   (host != NULL && atomic_load(&host->mailbox->loop) == NULL);
    if (!is_lost) {
        play->running[play->running_count++] = batch;
        return;
    }
    struct ab_todo todo = {0};
    mark(play, batch, REFUSED);
    ab_batch_settle(batch, true, NULL, &todo);
    carry_out(&play->world, &todo);
    ab_batch_let_go(batch);
}

/* Take one piece after the other.  False: it was refused, or lost its loop,
 * while it paused. */
static bool
form(struct play *play, struct ab_batch *batch)
{
    size_t most =
        roll(&play->dice, 3) == 0 ? 1 + roll(&play->dice, 4) : SIZE_MAX;
    for (;;) {
        struct ab_todo todo = {0};
        size_t added = ab_batch_fill(batch, most, &todo);
        carry_out(&play->world, &todo);
        size_t set_aside = look_through(play, batch, batch->length - added);
        if (set_aside == 0 && (added < most || batch->due == 0)) {
            interrupt(play);
            return true;
        }
        if (roll(&play->dice, 2) == 0) {
            interrupt(play);
            continue;
        }
        ab_batch_pause(batch, &todo);
        carry_out(&play->world, &todo);
        play->paused = batch;
        interrupt(play);
        play->paused = NULL;
        if (!ab_batch_resume(batch)) {
            return false;
        }
    }
}

void
play_cut(struct play *play)
{
    struct world *world = &play->world;
    struct ab_todo todo = {0};
    struct ab_batch *batch;
    int loop = any_open_loop(play);
    enum ab_host host = world->batcher->synced_data.host;
    if (play->running_count == MAX_RUNNING || play->is_forming ||
        (loop < 0 && host == AB_HOST_LOOP)) {
        return;
    }
    struct ab_link *link =
        loop < 0 || host == AB_HOST_WORKER ? NULL : link_of(world, loop);
    CHECK(ab_batch_cut(world->batcher, link, &batch, &todo) == AB_OK);
    carry_out(world, &todo);
    if (batch == NULL) {
        return;
    }
    play->is_forming = true;
    play->was_aborted = false;
    bool is_whole = form(play, batch);
    play->is_forming = false;
    if (!is_whole) {
        ab_batch_settle(batch, true, NULL, &todo);
        carry_out(world, &todo);
        ab_batch_let_go(batch);
        return;
    }
    bool has_items = ab_batch_start(batch, &todo);
    carry_out(world, &todo);
    if (has_items) {
        take_over(play, batch);
    }
}

void
play_settle(struct play *play)
{
    if (play->running_count == 0) {
        return;
    }
    size_t at = roll(&play->dice, play->running_count);
    struct ab_batch *batch = play->running[at];
    if (!batch->is_settled) { // else it ended with its loop
        mark(play, batch, SETTLED);
    }
    play->running[at] = play->running[--play->running_count];
    settle_batch(&play->world, batch);
}

/* ---- telling ---- */

static void
check_item(struct play *play, const struct ab_parcel *parcel)
{
    size_t waiter = number_of(parcel->waiter);
    bool is_stranded = is_waiting(play, waiter) && play->loops[waiter] < 0 &&
                       waiter < play->stranded;
    CHECK(parcel->value == parcel->waiter);
    switch (play->states[waiter]) {
    case SETTLED:
        CHECK(!parcel->is_failed && parcel->kind == AB_ITEM);
        break;
    case REFUSED:
        CHECK(parcel->is_failed);
        break;
    case DEAD:
        break;
    default:
        CHECK(is_stranded && parcel->is_failed);
    }
    play->states[waiter] = TOLD;
}

static void
check_parcel(struct play *play, const struct ab_parcel *parcel)
{
    size_t waiter = number_of(parcel->waiter);
    if (parcel->kind == AB_ITEM || parcel->kind == AB_SILENT) {
        check_item(play, parcel);
    }
    else if (parcel->kind == AB_SPACE) {
        CHECK(!play->is_space_told[waiter - SPACE]);
        play->is_space_told[waiter - SPACE] = true;
    }
    else if (CHECK(parcel->kind == AB_WATCHER)) {
        play->watchers_told++;
    }
}

void
play_tell(struct play *play)
{
    struct world *world = &play->world;
    (void)tell_all(world);
    for (; play->looked_at < world->told_count; play->looked_at++) {
        check_parcel(play, &world->told[play->looked_at]);
    }
    world->told_count = play->looked_at = 0;
}
