#include "core/queue.h"

#define AB_CHUNK_ENTRIES 85 // with the link: a 4 KiB block

struct ab_chunk {
    struct ab_chunk *next;
    struct ab_entry entries[AB_CHUNK_ENTRIES];
};

void
ab_cost_add(struct ab_cost *sum, int64_t cost)
{
    sum->low += (uint64_t)cost;
    sum->high += sum->low < (uint64_t)cost;
}

void
ab_cost_subtract(struct ab_cost *sum, int64_t cost)
{
    sum->high -= sum->low < (uint64_t)cost;
    sum->low -= (uint64_t)cost;
}

bool
ab_cost_reaches(const struct ab_cost *sum, int64_t limit)
{
    return sum->high != 0 || sum->low >= (uint64_t)limit;
}

void
ab_queue_init(struct ab_queue *queue)
{
    *queue = (struct ab_queue){0};
}

static void
release_chunks(struct ab_chunk *chunk)
{
    while (chunk != NULL) {
        struct ab_chunk *next = chunk->next;
        ab_release(chunk);
        chunk = next;
    }
}

void
ab_queue_fini(struct ab_queue *queue)
{
    release_chunks(queue->head);
    release_chunks(queue->spare);
    ab_queue_init(queue);
}

/* Chunks for `count` more entries, linked behind the tail; on failure the
 * queue is as before. */
static enum ab_status
reserve(struct ab_queue *queue, size_t count)
{
    size_t room = queue->tail != NULL ? AB_CHUNK_ENTRIES - queue->tail_at : 0;
    struct ab_chunk *first = NULL, **end = &first;
    while (room < count) {
        struct ab_chunk *chunk = queue->spare;
        queue->spare = NULL;
        if (chunk == NULL) {
            chunk = ab_allocate(sizeof *chunk);
        }
        if (chunk == NULL) {
            release_chunks(first);
            return AB_NO_MEMORY;
        }
        chunk->next = NULL;
        *end = chunk;
        end = &chunk->next;
        room += AB_CHUNK_ENTRIES;
    }
    if (first == NULL) {
        return AB_OK;
    }
    if (queue->tail == NULL) {
        queue->head = queue->tail = first;
        queue->head_at = queue->tail_at = 0;
    }
    else {
        queue->tail->next = first;
    }
    return AB_OK;
}

enum ab_status
ab_queue_push(struct ab_queue *queue, const struct ab_entry *entries,
              size_t count)
{
    enum ab_status status = reserve(queue, count);
    if (status != AB_OK) {
        return status;
    }
    for (size_t i = 0; i < count; i++) {
        if (queue->tail_at == AB_CHUNK_ENTRIES) {
            queue->tail = queue->tail->next;
            queue->tail_at = 0;
        }
        queue->tail->entries[queue->tail_at++] = entries[i];
        ab_cost_add(&queue->cost, entries[i].cost);
    }
    queue->length += count;
    queue->tail_number += count;
    return AB_OK;
}

/* Give up the place at the head; its contents are gone already. */
static void
advance(struct ab_queue *queue)
{
    queue->losses++;
    queue->head_number++;
    queue->head_at++;
    if (queue->head_number == queue->tail_number) {
        AB_ASSERT(queue->head == queue->tail);
        queue->head_at = queue->tail_at = 0;
    }
    else if (queue->head_at == AB_CHUNK_ENTRIES) {
        struct ab_chunk *empty = queue->head;
        queue->head = empty->next;
        queue->head_at = 0;
        ab_release(queue->spare);
        empty->next = NULL;
        queue->spare = empty; // one is kept: a steady queue allocates nothing
    }
}

struct ab_entry *
ab_queue_head(struct ab_queue *queue)
{
    while (queue->head_number != queue->tail_number) {
        struct ab_entry *entry = &queue->head->entries[queue->head_at];
        if (entry->waiter != NULL) {
            return entry;
        }
        advance(queue);
    }
    return NULL;
}

struct ab_entry
ab_queue_take(struct ab_queue *queue, struct ab_entry *entry)
{
    struct ab_entry taken = *entry;
    *entry = (struct ab_entry){0};
    queue->length--;
    queue->losses++;
    ab_cost_subtract(&queue->cost, taken.cost);
    return taken;
}

struct ab_entry
ab_queue_pop(struct ab_queue *queue)
{
    struct ab_entry *head = ab_queue_head(queue);
    AB_ASSERT(head != NULL);
    struct ab_entry taken = ab_queue_take(queue, head);
    advance(queue);
    return taken;
}

struct ab_cursor
ab_queue_walk(const struct ab_queue *queue, uint64_t from)
{
    struct ab_cursor cursor = {queue->head, queue->head_at,
                               queue->head_number};
    if (from > queue->tail_number) {
        from = queue->tail_number;
    }
    while (cursor.number < from) {
        uint64_t step = from - cursor.number;
        uint64_t here = AB_CHUNK_ENTRIES - cursor.at;
        if (step < here || cursor.chunk->next == NULL) {
            cursor.at += (size_t)step;
            cursor.number = from;
        }
        else {
            cursor.chunk = cursor.chunk->next;
            cursor.at = 0;
            cursor.number += here;
        }
    }
    return cursor;
}

struct ab_entry *
ab_queue_next(const struct ab_queue *queue, struct ab_cursor *cursor)
{
    while (cursor->number < queue->tail_number) {
        if (cursor->at == AB_CHUNK_ENTRIES) {
            cursor->chunk = cursor->chunk->next;
            cursor->at = 0;
        }
        struct ab_entry *entry = &cursor->chunk->entries[cursor->at];
        cursor->at++;
        cursor->number++;
        if (entry->waiter != NULL) {
            return entry;
        }
    }
    return NULL;
}
