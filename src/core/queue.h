/* A first-in, first-out queue of entries: an item, who waits for it, since
 * when, and what it costs.  Not thread-safe, and it owns nothing that its
 * entries point to.
 *
 * The entries lie in chunks, so a queue of a million grows without ever
 * moving one, and gives its memory back as it drains.  An entry may be
 * dropped in the middle; it then stays as a hole until the head passes it.
 */
#ifndef AB_CORE_QUEUE_H
#define AB_CORE_QUEUE_H

#include "core/base.h"

struct ab_batch;
struct ab_link;

enum ab_kind {
    AB_ITEM,    // one that is to be processed
    AB_SPACE,   // a caller to be told that its item was admitted
    AB_WATCHER, // a caller to be told that nothing is left to do
    AB_STOPPER, // the same, but for those still to be told on other loops
    AB_SILENT,  // dropped without being told
};

struct ab_entry {
    void *value;          /* owned; the item until the cut, then its result */
    void *waiter;         /* owned; whom to tell; NULL: a hole, nobody waits */
    struct ab_link *link; /* the loop that the waiter belongs to */
    uint8_t kind;         // enum ab_kind
    bool is_watched; // its end is noticed at once, for callers wait for space
    uint32_t index;  // place among a group's items
    union {
        struct { // while it is in a queue
            int64_t enqueued_ns;
            int64_t cost;
        };
        struct { // from the cut on
            struct ab_entry *next;
            struct ab_batch *batch;
        };
    };
};

/* A sum of costs of any number of entries: exact where 64 bits are not. */
struct ab_cost {
    uint64_t high, low;
};

void ab_cost_add(struct ab_cost *sum, int64_t cost);
void ab_cost_subtract(struct ab_cost *sum, int64_t cost);
bool ab_cost_reaches(const struct ab_cost *sum, int64_t limit);

struct ab_chunk;

struct ab_queue {
    struct ab_chunk *head, *tail, *spare;
    size_t head_at, tail_at; // places inside the head and tail chunks
    uint64_t head_number;    // number of the first place still held
    uint64_t tail_number;    // number the next entry gets
    size_t length;           // entries that are no holes
    uint64_t losses;         // grows whenever an entry or a place goes
    struct ab_cost cost;     // of those
};

void ab_queue_init(struct ab_queue *queue);
void ab_queue_fini(struct ab_queue *queue); // frees chunks, not contents

/* Append copies of `count` entries, all or none.  AB_OK, AB_NO_MEMORY. */
enum ab_status ab_queue_push(struct ab_queue *queue,
                             const struct ab_entry *entries, size_t count);

/* The oldest entry, or NULL.  Good until the queue changes. */
struct ab_entry *ab_queue_head(struct ab_queue *queue);

/* Take the oldest entry out; there must be one. */
struct ab_entry ab_queue_pop(struct ab_queue *queue);

/* Take `entry`, found by a walk, out and leave a hole.  The walk may go on;
 * holes at the head wait for the next ab_queue_head. */
struct ab_entry ab_queue_take(struct ab_queue *queue, struct ab_entry *entry);

/* Walks the entries in order, holes left out; nothing else may change. */
struct ab_cursor {
    struct ab_chunk *chunk;
    size_t at;
    uint64_t number; // of the entry that ab_queue_next gave last, plus one
};

/* Start at the first entry whose number is `from` or more. */
struct ab_cursor ab_queue_walk(const struct ab_queue *queue, uint64_t from);
struct ab_entry *ab_queue_next(const struct ab_queue *queue,
                               struct ab_cursor *cursor); // NULL at the end

#endif
