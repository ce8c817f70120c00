#include "core/wakefd.h"

#ifndef _WIN32
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#endif
#ifdef __linux__
#include <sys/eventfd.h>
#endif

#if defined(__linux__)

static void
open_fds(struct ab_wakefd *wakefd)
{
    wakefd->read_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    wakefd->write_fd = wakefd->read_fd;
}

#elif !defined(_WIN32)

static void
open_fds(struct ab_wakefd *wakefd)
{
    int fds[2];
    if (pipe(fds) != 0) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(fds[i], F_SETFD, FD_CLOEXEC);
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
    }
    wakefd->read_fd = fds[0];
    wakefd->write_fd = fds[1];
}

#else

static void
open_fds(struct ab_wakefd *wakefd)
{
    (void)wakefd; // no loop there can watch one
}

#endif

void
ab_wakefd_init(struct ab_wakefd *wakefd, bool wants_fd)
{
    *wakefd = (struct ab_wakefd){.read_fd = -1, .write_fd = -1};
    if (wants_fd) {
        open_fds(wakefd);
    }
}

bool
ab_wakefd_fill(struct ab_wakefd *wakefd)
{
    if (wakefd->is_full || wakefd->write_fd < 0) {
        return true;
    }
#ifndef _WIN32
    uint64_t one = 1;
    // It cannot be full: it holds at most this one.  An interrupted write
    // is done again; what else goes wrong with it, the caller is told.
    while (write(wakefd->write_fd, &one, sizeof one) < 0) {
        if (errno != EINTR) {
            return false;
        }
    }
#endif
    wakefd->is_full = true;
    return true;
}

void
ab_wakefd_empty(struct ab_wakefd *wakefd)
{
    if (!wakefd->is_full) {
        return;
    }
#ifndef _WIN32
    uint64_t value;
    while (read(wakefd->read_fd, &value, sizeof value) < 0 && errno == EINTR) {
    }
#endif
    wakefd->is_full = false;
}

void
ab_wakefd_close(struct ab_wakefd *wakefd)
{
#ifndef _WIN32
    if (wakefd->read_fd >= 0) {
        close(wakefd->read_fd);
    }
    if (wakefd->write_fd != wakefd->read_fd) {
        close(wakefd->write_fd);
    }
#endif
    *wakefd = (struct ab_wakefd){.read_fd = -1, .write_fd = -1};
}
