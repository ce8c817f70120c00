/* A small world of one batcher and its loops, played by the test itself: it
 * does by hand what the binding does for real.
 */
#ifndef AB_TESTS_WORLD_H
#define AB_TESTS_WORLD_H

#include "core/batch.h"
#include "core/batcher.h"
#include "core/outbox.h"
#include "support.h"

#define WORLD_LOOPS 3

struct world {
    struct ab_batcher *batcher;
    struct ab_mailbox *loops[WORLD_LOOPS];
    int refs;          // that the calls asked for, summed up
    size_t wakes;      // loops to be woken by the caller
    size_t starts;     // workers to be started
    size_t runs;       // tasks to be started on the caller's loop
    int64_t retry_ns;  // last time the caller was asked to keep
    bool is_away;      // in the last todo
    uint64_t accepted; // items that push took
    size_t told_count; // waiters that were told, in order
    struct ab_parcel told[4096];
};

/* A batcher whose limits are all off, hosted by `host`, with so many loops,
 * and the clock frozen. */
void world_open(struct world *world, enum ab_host host, size_t loops);

/* Nothing may be left: orphan the batcher, close the loops. */
void world_close(struct world *world);

struct ab_limits *limits_of(struct world *world);
struct ab_link *link_of(struct world *world, int loop); // -1: none
void *loop_of(struct world *world, int loop);
struct ab_mailbox *own_mailbox(struct world *world, int loop);

/* Carry out a todo and forget it. */
void carry_out(struct world *world, struct ab_todo *todo);

/* Push `count` items for waiters first, first + 1, …, each of `cost`. */
enum ab_status push_items(struct world *world, int loop, size_t first,
                          size_t count, int64_t cost);
enum ab_status submit_item(struct world *world, int loop, size_t number,
                           int64_t cost, uint64_t *pair);
enum ab_status watch_idle(struct world *world, int loop, size_t number);
void flush_queue(struct world *world, int loop);
void begin_drain(struct world *world, int loop);
void look(struct world *world, int loop);

/* Cut, fill and start on `loop`; NULL when nothing is due. */
struct ab_batch *cut_batch(struct world *world, int loop);

/* Settle with the items themselves as results, and let go. */
void settle_batch(struct world *world, struct ab_batch *batch);

/* Tell everybody whose outbox is full, on every loop; how many. */
size_t tell_all(struct world *world);

/* The same for those who are told on no loop; the loops are woken. */
void tell_strangers(struct world *world);

/* The loop reads its mail: tells its waiters, drops hints.  How many
 * letters there were. */
size_t read_mail(struct world *world, int loop);

/* Cut, settle and tell until nothing is due. */
void serve_all(struct world *world, int loop);

/* Refuse who waits on `link` (NULL: on any), in the places of `what`. */
void refuse(struct world *world, struct ab_link *link, unsigned what);

/* The loop closes, as its reader would have it.  Who waited there is counted
 * among the told, as cancelled. */
void close_loop(struct world *world, int loop);

#endif
