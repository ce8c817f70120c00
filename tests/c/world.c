#include "world.h"
#include "core/decide.h"
#include "core/intake.h"
#include "core/outbox.h"

void
world_open(struct world *world, enum ab_host host, size_t loops)
{
    *world = (struct world){0};
    ab_clock_freeze();
    CHECK(ab_batcher_new(&world->batcher, world) == AB_OK);
    *limits_of(world) = (struct ab_limits){
        .max_batch_size = AB_UNLIMITED,
        .max_batch_cost = AB_UNLIMITED,
        .max_queue_size = AB_UNLIMITED,
        .max_queue_cost = AB_UNLIMITED,
        .concurrency = 1,
    };
    world->batcher->synced_data.host = host;
    world->batcher->synced_data.max_workers = 8; // they only seem to start
    for (size_t i = 0; i < loops; i++) {
        world->loops[i] = open_loop();
    }
}

struct ab_limits *
limits_of(struct world *world)
{
    return &world->batcher->synced_data.limits;
}

struct ab_mailbox *
own_mailbox(struct world *world, int loop)
{
    return loop < 0 ? NULL : world->loops[loop];
}

void *
loop_of(struct world *world, int loop)
{
    return own_mailbox(world, loop); // as open_loop has it
}

struct ab_link *
link_of(struct world *world, int loop)
{
    if (ab_batcher_link(world->batcher, own_mailbox(world, loop)) != AB_OK) {
        return NULL;
    }
    ab_mutex_lock(&world->batcher->mutex);
    struct ab_link *link =
        ab_link_of_locked(world->batcher, loop_of(world, loop));
    ab_mutex_unlock(&world->batcher->mutex);
    return link;
}

void
carry_out(struct world *world, struct ab_todo *todo)
{
    world->refs += todo->refs;
    world->starts += todo->start_worker;
    world->runs += todo->start_run;
    world->is_away = todo->is_away;
    if (todo->retry_ns != 0) {
        world->retry_ns = todo->retry_ns;
    }
    if (todo->wake != NULL) {
        world->wakes++;
        ab_mailbox_release(todo->wake);
    }
    *todo = (struct ab_todo){0};
}

enum ab_status
push_items(struct world *world, int loop, size_t first, size_t count,
           int64_t cost)
{
    struct ab_entry entries[300];
    struct ab_todo todo = {0};
    for (size_t i = 0; i < count; i++) {
        entries[i] = (struct ab_entry){.value = thing(first + i),
                                       .waiter = thing(first + i),
                                       .index = (uint32_t)i,
                                       .cost = cost};
    }
    if (link_of(world, loop) == NULL) {
        return AB_NO_MEMORY;
    }
    enum ab_status status = ab_batcher_push(
        world->batcher, loop_of(world, loop), entries, count, &todo);
    carry_out(world, &todo);
    if (status == AB_OK) {
        world->accepted += count;
    }
    return status;
}

enum ab_status
submit_item(struct world *world, int loop, size_t number, int64_t cost,
            uint64_t *pair)
{
    struct ab_todo todo = {0};
    // Who waits for space is told by a waiter of its own.
    struct ab_entry entries[2] = {
        {.value = thing(number), .waiter = thing(number), .cost = cost},
        {.waiter = thing(100000 + number), .kind = AB_SPACE},
    };
    if (link_of(world, loop) == NULL) {
        return AB_NO_MEMORY;
    }
    enum ab_status status = ab_batcher_wait_for_space(
        world->batcher, loop_of(world, loop), entries, pair, &todo);
    carry_out(world, &todo);
    return status;
}

enum ab_status
watch_idle(struct world *world, int loop, size_t number)
{
    struct ab_todo todo = {0};
    struct ab_entry watcher = {.waiter = thing(number), .kind = AB_WATCHER};
    if (link_of(world, loop) == NULL) {
        return AB_NO_MEMORY;
    }
    enum ab_status status = ab_batcher_watch(
        world->batcher, loop_of(world, loop), &watcher, &todo);
    carry_out(world, &todo);
    return status;
}

void
flush_queue(struct world *world, int loop)
{
    struct ab_todo todo = {0};
    ab_batcher_flush(world->batcher, own_mailbox(world, loop), &todo);
    carry_out(world, &todo);
}

void
begin_drain(struct world *world, int loop)
{
    struct ab_todo todo = {0};
    ab_batcher_begin_drain(world->batcher, own_mailbox(world, loop), &todo);
    carry_out(world, &todo);
}

void
look(struct world *world, int loop)
{
    struct ab_todo todo = {0};
    ab_batcher_look(world->batcher, own_mailbox(world, loop), &todo);
    carry_out(world, &todo);
}

static bool
is_hinted(struct ab_batcher *batcher)
{
    ab_mutex_lock(&batcher->mutex);
    bool is_given = batcher->synced_data.hint != AB_HINT_NONE;
    ab_mutex_unlock(&batcher->mutex);
    return is_given;
}

struct ab_batch *
cut_batch(struct world *world, int loop)
{
    struct ab_todo todo = {0};
    struct ab_batch *batch;
    struct ab_link *host = loop < 0 ? NULL : link_of(world, loop);
    enum ab_status status = ab_batch_cut(world->batcher, host, &batch, &todo);
    carry_out(world, &todo);
    if (status == AB_OK && batch == NULL && is_hinted(world->batcher)) {
        // It came unasked, and was asked just now.
        status = ab_batch_cut(world->batcher, host, &batch, &todo);
        carry_out(world, &todo);
    }
    if (status != AB_OK || batch == NULL) {
        return NULL;
    }
    while (ab_batch_fill(batch, SIZE_MAX, &todo) > 0) {
        carry_out(world, &todo);
    }
    carry_out(world, &todo);
    bool has_items = ab_batch_start(batch, &todo);
    carry_out(world, &todo);
    if (has_items) {
        CHECK(ab_batch_formed(batch, 0));
    }
    return has_items ? batch : NULL;
}

void
settle_batch(struct world *world, struct ab_batch *batch)
{
    struct ab_todo todo = {0};
    ab_batch_settle(batch, false, NULL, &todo);
    carry_out(world, &todo);
    ab_batch_let_go(batch);
}

/* ---- telling ---- */

/* Their loop is closed: they are counted, not told. */
static bool
is_dead(const struct ab_link *link)
{
    return link->mailbox != NULL && atomic_load(&link->mailbox->loop) == NULL;
}

static void
tell_parcels(struct world *world, struct ab_link *link,
             const struct ab_parcel *parcels, size_t count)
{
    struct ab_told told = {0};
    struct ab_todo todo = {0};
    for (size_t i = 0; i < count; i++) {
        switch (parcels[i].kind) {
        case AB_WATCHER:
        case AB_STOPPER:
            told.watchers++;
            break;
        case AB_ITEM:
            *(is_dead(link)          ? &told.cancelled
              : parcels[i].is_failed ? &told.failed
                                     : &told.completed) += 1;
            break;
        default:
            told.uncounted++;
        }
        if (CHECK(world->told_count < 4096)) {
            world->told[world->told_count++] = parcels[i];
        }
    }
    ab_link_count(link, &told);
    ab_link_told(link, &told, &todo);
    carry_out(world, &todo);
}

static void
tell_link(struct world *world, struct ab_link *link)
{
    size_t taken;
    struct ab_parcel parcels[7]; // a number that divides nothing
    while ((taken = ab_link_take(link, parcels, 7)) > 0) {
        tell_parcels(world, link, parcels, taken);
    }
}

size_t
read_mail(struct world *world, int loop)
{
    size_t letters = 0;
    (void)ab_mailbox_take(world->loops[loop]);
    struct ab_link *link;
    while ((link = ab_mailbox_next(world->loops[loop])) != NULL) {
        letters++;
        struct ab_batcher *batcher = link->batcher;
        tell_link(world, link);
        ab_batcher_release(batcher);
    }
    return letters;
}

/* Wake the loops, and tell those who have none. */
void
tell_strangers(struct world *world)
{
    while (true) {
        struct ab_parcel parcels[5];
        struct ab_mailbox *wake;
        struct ab_link *link = NULL;
        size_t taken =
            ab_batcher_take_stray(world->batcher, parcels, 5, &link, &wake);
        if (taken > 0) {
            tell_parcels(world, link, parcels, taken);
        }
        else if (wake != NULL) {
            world->wakes++;
            ab_mailbox_release(wake);
        }
        else {
            return;
        }
    }
}

size_t
tell_all(struct world *world)
{
    size_t before = world->told_count, last;
    do {
        last = world->told_count;
        tell_strangers(world);
        for (int i = 0; i < WORLD_LOOPS; i++) {
            if (world->loops[i] != NULL) {
                (void)read_mail(world, i);
            }
        }
    } while (world->told_count > last);
    return world->told_count - before;
}

void
serve_all(struct world *world, int loop)
{
    struct ab_batch *batch;
    while ((batch = cut_batch(world, loop)) != NULL) {
        settle_batch(world, batch);
        (void)tell_all(world);
    }
    (void)tell_all(world);
}
