/* Event loops: finding the running one, giving it a mailbox, waking it,
 * letting others run.
 */
#include "binding/reader.h"

#ifndef _WIN32
#include <time.h>
#endif

#define AB_YIELD_NS 200000      // how long one stays detached to let others in
#define AB_FOREVER_S 31536000.0 // the timer of a loop that watches no fd

static PyObject *
new_reader(struct ab_state *state, PyObject *loop, bool wants_fd)
{
    PyTypeObject *type = state->reader_type;
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    if (ab_mailbox_new(&self->mailbox, wants_fd) != AB_OK) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    PyObject *proxy = PyWeakref_NewProxy((PyObject *)self, NULL);
    if (proxy == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->mailbox->synced_data.reader_proxy = proxy;
    self->loop = Py_NewRef(loop);
    return (PyObject *)self;
}

/* Give the reader to its loop, in a context that is nobody's: the loop keeps
 * the context of whoever adds a reader. */
static int
hand_over(struct ab_state *state, PyObject *reader, PyObject *loop)
{
    struct ab_mailbox *mailbox = Reader_CAST(reader)->mailbox;
    PyObject *answer = NULL;
    PyObject *context = PyContext_Copy(state->empty_context);
    if (context == NULL || PyContext_Enter(context) < 0) {
        Py_XDECREF(context);
        return -1;
    }
    if (mailbox->has_fd) {
        PyObject *fd = PyLong_FromLong(mailbox->synced_data.wakefd.read_fd);
        if (fd != NULL) {
            answer = PyObject_CallMethodObjArgs(loop, state->str_add_reader,
                                                fd, reader, NULL);
            Py_DECREF(fd);
        }
    }
    else {
        PyObject *delay = PyFloat_FromDouble(AB_FOREVER_S);
        if (delay != NULL) {
            answer = PyObject_CallMethodObjArgs(loop, state->str_call_later,
                                                delay, reader, NULL);
            Py_DECREF(delay);
        }
    }
    PyObject *error = PyErr_GetRaisedException();
    (void)PyContext_Exit(context);
    Py_DECREF(context);
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

/* A new reader that its loop owns, and its mailbox, acquired. */
static struct ab_mailbox *
open_mailbox(struct ab_state *state, PyObject *loop, bool wants_fd)
{
    PyObject *reader = new_reader(state, loop, wants_fd);
    if (reader == NULL) {
        return NULL;
    }
    struct ab_mailbox *mailbox = Reader_CAST(reader)->mailbox;
    if (hand_over(state, reader, loop) < 0) {
        mailbox = NULL;
    }
    else {
        ab_mailbox_acquire(mailbox);
        atomic_store_explicit(&mailbox->loop, loop, memory_order_relaxed);
    }
    Py_DECREF(reader);
    return mailbox;
}

int
ab_enter_loop(Batcher *self, PyObject *loop)
{
    struct ab_mailbox *mailbox = NULL;
    if (loop != NULL) {
        mailbox = ab_mailbox_find(loop);
        if (mailbox == NULL) {
            mailbox = open_mailbox(self->state, loop, true);
        }
        if (mailbox == NULL &&
            PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
            ab_drop_error();
            mailbox = open_mailbox(self->state, loop, false);
        }
        if (mailbox == NULL) {
            return -1;
        }
    }
    enum ab_status status = ab_batcher_link(self->core, mailbox);
    if (mailbox != NULL) {
        ab_mailbox_release(mailbox);
    }
    if (status != AB_OK) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

#if PY_VERSION_HEX < 0x030C0000
/* The loop of the batcher's home, if this thread runs it: a new reference, or
 * NULL without an exception.
 *
 * asyncio keeps the running loop in the thread's dictionary, in an object of
 * this layout in all of 3.10 and 3.11, and calls getpid() whenever it is asked
 * for it: a system call for every item.  That tells the child of a fork, which
 * here has no home. */
static PyObject *
home_that_runs_here(Batcher *self)
{
    struct holder {
        PyObject_HEAD PyObject *loop; /* owned */
        int pid;
    };
    PyObject *dict = PyThreadState_GetDict(); /* borrowed */
    PyObject *holder =                        /* borrowed */
        dict == NULL
            ? NULL
            : PyDict_GetItemWithError(
                  dict, self->state->str___asyncio_running_event_loop__);
    if (holder == NULL ||
        Py_TYPE(holder)->tp_basicsize != (Py_ssize_t)sizeof(struct holder) ||
        strcmp(Py_TYPE(holder)->tp_name, "_RunningLoopHolder") != 0) {
        return NULL;
    }
    PyObject *loop = ((struct holder *)holder)->loop;
    ab_mutex_lock(&self->core->mutex);
    struct ab_link *home = self->core->synced_data.home;
    bool is_home = home != NULL && loop != NULL &&
                   atomic_load_explicit(&home->mailbox->loop,
                                        memory_order_relaxed) == loop;
    ab_mutex_unlock(&self->core->mutex);
    return is_home ? Py_NewRef(loop) : NULL;
}
#endif

PyObject *
ab_callers_loop(Batcher *self)
{
#if PY_VERSION_HEX < 0x030C0000
    PyObject *home = home_that_runs_here(self);
    if (home != NULL) {
        return home;
    }
#endif
    return PyObject_CallNoArgs(self->state->get_running_loop);
}

PyObject *
ab_running_loop(struct ab_state *state)
{
    PyObject *loop = PyObject_CallNoArgs(state->_get_running_loop);
    if (loop == NULL) {
        ab_drop_error();
    }
    else if (loop == Py_None) {
        Py_CLEAR(loop);
    }
    return loop;
}

/* The proxy of the mailbox's reader, a new reference; NULL: it is closed. */
static PyObject *
proxy_of(struct ab_mailbox *mailbox)
{
    ab_mutex_lock(&mailbox->mutex);
    PyObject *proxy = mailbox->synced_data.reader_proxy;
    Py_XINCREF(proxy);
    ab_mutex_unlock(&mailbox->mutex);
    return proxy;
}

/* The loop of the mailbox, a new reference; NULL without an exception: it is
 * closed. */
static PyObject *
loop_of(PyObject *proxy)
{
    PyObject *reader = NULL;
    (void)PyWeakref_GetRef(proxy, &reader);
    if (reader == NULL) {
        return NULL;
    }
    PyObject *loop = Py_XNewRef(Reader_CAST(reader)->loop);
    Py_DECREF(reader);
    return loop;
}

void
ab_wake_loop(struct ab_state *state, struct ab_mailbox *mailbox)
{
    PyObject *proxy = proxy_of(mailbox);
    if (proxy == NULL) {
        return; // closed: whoever waited there is released
    }
    PyObject *loop = loop_of(proxy);
    PyObject *running = ab_running_loop(state);
    // The proxy, for a handle that another thread made is freed late on
    // free-threaded builds, and would keep the reader from giving notice.
    PyObject *method = loop == running ? state->str_call_soon
                                       : state->str_call_soon_threadsafe;
    if (loop == NULL) {
        ab_mailbox_write_fd(mailbox); // closed, or brought back by a finalizer
    }
    else if (ab_call_soon(state, loop, method, proxy) < 0) {
        // The loop is closing, or something else went wrong, as memory or a
        // signal handler can: then the fd gets through, or a second call.
        ab_drop_error();
        ab_mailbox_write_fd(mailbox);
        if (!mailbox->has_fd && ab_call_soon(state, loop, method, proxy) < 0) {
            ab_drop_error();
            ab_mailbox_sleeps_on(mailbox); // the next letter wakes it
        }
    }
    Py_XDECREF(running);
    Py_XDECREF(loop);
    Py_DECREF(proxy);
}

struct ab_link *
ab_link_of(Batcher *self, PyObject *loop)
{
    ab_mutex_lock(&self->core->mutex);
    struct ab_link *link = ab_link_of_locked(self->core, loop);
    ab_mutex_unlock(&self->core->mutex);
    return link;
}

void
ab_post_own(Batcher *self, PyObject *loop)
{
    struct ab_mailbox *mailbox = NULL;
    ab_mutex_lock(&self->core->mutex);
    struct ab_link *link = ab_link_of_locked(self->core, loop);
    if (self->core->synced_data.hint == AB_HINT_TAKEN) {
        self->core->synced_data.hint = AB_HINT_GIVEN; // by the letter
    }
    if (link != NULL &&
        ab_mailbox_post(link->mailbox, link, false) == AB_POSTED_WAKE) {
        mailbox = link->mailbox;
        ab_mailbox_acquire(mailbox);
    }
    ab_mutex_unlock(&self->core->mutex);
    if (mailbox != NULL) {
        ab_wake_loop(self->state, mailbox);
        ab_mailbox_release(mailbox);
    }
}

int
ab_home_runs(Batcher *self)
{
    ab_mutex_lock(&self->core->mutex);
    struct ab_link *home = self->core->synced_data.home;
    struct ab_mailbox *mailbox = home != NULL ? home->mailbox : NULL;
    if (mailbox != NULL) {
        ab_mailbox_acquire(mailbox);
    }
    ab_mutex_unlock(&self->core->mutex);
    if (mailbox == NULL) {
        return 0;
    }
    PyObject *proxy = proxy_of(mailbox);
    PyObject *loop = proxy != NULL ? loop_of(proxy) : NULL;
    int runs = 0;
    if (loop != NULL) {
        PyObject *answer =
            PyObject_CallMethodNoArgs(loop, self->state->str_is_running);
        runs = answer != NULL && PyObject_IsTrue(answer) > 0;
        Py_XDECREF(answer);
        ab_drop_error();
    }
    Py_XDECREF(loop);
    Py_XDECREF(proxy);
    ab_mailbox_release(mailbox);
    return runs;
}

void
ab_stay_detached(void)
{
    Py_BEGIN_ALLOW_THREADS
#ifdef _WIN32
        Sleep(0);
#else
        struct timespec pause = {0, AB_YIELD_NS};
        nanosleep(&pause, NULL);
#endif
    Py_END_ALLOW_THREADS
}

void
ab_let_others_run(PyObject *loop)
{
#ifndef Py_GIL_DISABLED
    if (loop == NULL) {
        ab_stay_detached();
    }
#else
    (void)loop; // nobody waits for an interpreter lock
#endif
}
