/* A long run of arbitrary calls on one batcher, and what is known of every
 * waiter meanwhile.  A move makes one call, or what belongs together, and
 * checks what it brought.
 */
#ifndef AB_TESTS_PLAY_H
#define AB_TESTS_PLAY_H

#include "world.h"

#define WAITERS 4000
#define MAX_RUNNING 32 // more than any limit of concurrency in a play

enum state {
    FREE,
    QUEUED,
    WAITING, // for space; admitted unseen, it stays so until it is cut
    CUT,
    SETTLED,
    REFUSED, // to be told an error
    DEAD,    // its loop closed: told as it may come
    TOLD,
    GONE, // cancelled
};

struct play {
    struct world world;
    struct dice dice;
    enum state states[WAITERS + 1];
    int loops[WAITERS + 1];
    uint64_t pairs[WAITERS + 1];     // of those that wait for space
    bool is_space_told[WAITERS + 1]; // and were told of their admission
    size_t next;
    size_t stranded; // callers without a loop below it may be refused
    size_t watchers, watchers_told;
    struct ab_batch *running[MAX_RUNNING];
    size_t running_count;
    bool is_forming;  // a batch is being cut: its host does other things
    bool was_aborted; // since that batch was cut
    struct ab_batch *paused; // that batch, between two pieces
    size_t queue_most; // what the queue may hold, whatever the limits were
    size_t cut_last[WORLD_LOOPS + 1]; // the youngest cut, of each loop
    size_t looked_at;                 // of world.told
};

int any_loop(struct play *play);      // an open one, or -1: none
int any_open_loop(struct play *play); // -1: none is open

void play_push(struct play *play);
void play_submit(struct play *play);
void play_cancel(struct play *play); // one in the middle of the queue
void play_withdraw(struct play *play);
void play_watch(struct play *play);
void play_cut(struct play *play);
void play_settle(struct play *play);
void play_tell(struct play *play);

void play_close(struct play *play);
void play_open(struct play *play);
void play_abort(struct play *play); // as a stop that waits for nobody
void play_limits(struct play *play);
void play_move_home(struct play *play);

#endif
