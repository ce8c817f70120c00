/* Event loops: finding the running one, giving it a mailbox, waking it. */
#include "binding/reader.h"

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
    if (loop != NULL && ab_call_soon(state, loop, method, proxy) < 0) {
        // The loop is closing, or something else went wrong, as memory or a
        // signal handler can: then the fd gets through, or a second call.
        ab_drop_error();
        ab_mailbox_write_fd(mailbox);
        if (!mailbox->has_fd && ab_call_soon(state, loop, method, proxy) < 0) {
            ab_drop_error();
        }
    }
    Py_XDECREF(running);
    Py_XDECREF(loop);
    Py_DECREF(proxy);
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
