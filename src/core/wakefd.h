/* The fd that a loop watches and other threads write: an eventfd, or a pipe
 * where there is none.  Not thread-safe: its mailbox's mutex is held, so that
 * it is never written after it was closed.
 */
#ifndef AB_CORE_WAKEFD_H
#define AB_CORE_WAKEFD_H

#include "core/base.h"

struct ab_wakefd {
    int read_fd, write_fd; // -1: closed, or none could be had
    bool is_full;          // written and not read since
};

void ab_wakefd_init(struct ab_wakefd *wakefd, bool wants_fd);
void ab_wakefd_close(struct ab_wakefd *wakefd);

/* Make it readable, and not.  What is so already costs nothing.  False: the
 * system refused to write; nobody was woken, try again. */
bool ab_wakefd_fill(struct ab_wakefd *wakefd);
void ab_wakefd_empty(struct ab_wakefd *wakefd);

#endif
