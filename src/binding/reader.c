/* The reader: how a loop serves its mailbox, and how its end is noticed.
 *
 * The reader is how a loop owns its mailbox: a callable that the loop watches
 * the mailbox's fd with (or, where it cannot watch one, keeps in a timer that
 * is never due).  Nobody else holds a reference for longer than a call, so
 * when the loop closes or dies, the reader's deallocation is the notice.
 */
#include "binding/reader.h"

#include "core/clock.h"
#include "core/decide.h"
#include "core/leave.h"
#include "core/registry.h"
#include "core/yield.h"

#ifndef _WIN32
#include <time.h>
#endif

#define AB_TELL_BUDGET 1024 // waiters told in one loop iteration
#define AB_YIELD_NS 200000  // how long a loop stays detached to let others in

/* ---- the loop is gone ---- */

static PyObject *
closed_error(struct ab_state *state)
{
    return PyObject_CallFunction(
        state->BatchCancelledError, "s",
        "the event loop that was to run the batch is closed");
}

static void
reject_hosted(Batcher *self, struct ab_link *link, PyObject *error)
{
    struct ab_batch *batch;
    while ((batch = ab_batcher_hosted_by(self->core, link)) != NULL) {
        ab_settle_error(self, batch, error, NULL);
    }
}

/* Nobody can run an async process_batch: callers without a loop would wait
 * for ever. */
static void
reject_loopless(Batcher *self, PyObject *error)
{
    ab_mutex_lock(&self->core->mutex);
    bool is_stranded = self->core->synced_data.host == AB_HOST_LOOP &&
                       self->core->synced_data.home == NULL;
    struct ab_link *link = ab_link_of_locked(self->core, NULL);
    ab_mutex_unlock(&self->core->mutex);
    if (is_stranded && link != NULL &&
        ab_refuse(self, link, AB_COLLECT_QUEUE | AB_COLLECT_BACKLOG, error,
                  NULL) < 0) {
        ab_report_error((PyObject *)self);
    }
}

static size_t
count_waiting(Batcher *self, const struct ab_batch *batch)
{
    size_t count = 0;
    for (size_t i = 0; i < batch->length; i++) {
        count += batch->entries[i].kind == AB_ITEM &&
                 !ab_waiter_is_done(self->state, batch->entries[i].waiter);
    }
    return count;
}

/* Release what waited on `link`.  How many items that was. */
static size_t
leave_loop(Batcher *self, struct ab_link *link)
{
    size_t released = 0;
    struct ab_todo todo = {0};
    struct ab_batch *batch;
    if (ab_batch_collect(self->core, link,
                         AB_COLLECT_QUEUE | AB_COLLECT_BACKLOG,
                         &batch) == AB_OK &&
        batch != NULL) {
        released = count_waiting(self, batch);
        // Its outboxes are those of a closed loop: dropped, not told.
        ab_batch_settle(batch, false, NULL, &todo);
        ab_batch_let_go(batch);
    }
    ab_finish_todo(self, NULL, &todo);
    PyObject *error = closed_error(self->state);
    if (error != NULL) {
        reject_hosted(self, link, error);
    }
    todo = (struct ab_todo){0};
    ab_batcher_lost_loop(self->core, link, &todo);
    ab_finish_todo(self, NULL, &todo);
    if (error != NULL) {
        reject_loopless(self, error);
        Py_DECREF(error);
    }
    else {
        ab_report_error(NULL);
    }
    ab_deliver(self, NULL);
    return released;
}

/* Pending work keeps the object.  It is not looked for by its weak reference,
 * which is cleared where the loop is collected together with its batchers and
 * closes in its finalizer. */
static Batcher *
object_behind(struct ab_batcher *core, struct ab_link *link)
{
    ab_mutex_lock(&core->mutex);
    PyObject *object = link->synced_data.pending > 0
                           ? Py_NewRef((PyObject *)core->object)
                           : NULL;
    ab_mutex_unlock(&core->mutex);
    return object != NULL ? Batcher_CAST(object) : ab_object_of(core);
}

static size_t
leave_loop_of(struct ab_batcher *core, struct ab_link *link)
{
    size_t released = 0;
    Batcher *batcher = object_behind(core, link);
    if (batcher != NULL) {
        released = leave_loop(batcher, link);
        Py_DECREF(batcher);
    }
    return released;
}

static void
close_mailbox(Reader *self)
{
    struct ab_mailbox *mailbox = self->mailbox;
    if (mailbox == NULL) {
        return;
    }
    self->mailbox = NULL;
    ab_mutex_lock(&mailbox->mutex);
    PyObject *proxy = mailbox->synced_data.reader_proxy;
    mailbox->synced_data.reader_proxy = NULL;
    ab_mutex_unlock(&mailbox->mutex);
    ab_mailbox_close(mailbox);
    Py_XDECREF(proxy);

    size_t released = 0;
    struct ab_link *link;
    while ((link = ab_mailbox_pop_kept(mailbox)) != NULL) {
        struct ab_batcher *core = link->batcher;
        released += leave_loop_of(core, link);
        ab_batcher_release(core);
    }
    // Where nobody waits a batcher may still have its home here.
    struct ab_batcher *core = NULL;
    while ((core = ab_registry_next(core)) != NULL) {
        if ((link = ab_batcher_pop_home(core, mailbox)) != NULL) {
            released += leave_loop_of(core, link);
        }
    }
    ab_mailbox_release(mailbox);
    if (released > 0 &&
        PyErr_WarnFormat(PyExc_ResourceWarning, 1,
                         "an event loop was closed while %zu items waited "
                         "in a batcher",
                         released) < 0) {
        ab_report_error(NULL);
    }
}

/* ---- the reader ---- */

/* Stay detached long enough for a waiting thread to take the interpreter
 * lock; one that only lets go for an instant gets it back itself. */
static void
yield_interpreter(struct ab_mailbox *mailbox)
{
    int64_t left_ns = ab_clock_now_ns();
    Py_BEGIN_ALLOW_THREADS
#ifdef _WIN32
        Sleep(0);
#else
        struct timespec pause = {0, AB_YIELD_NS};
        nanosleep(&pause, NULL);
#endif
    Py_END_ALLOW_THREADS
    ab_yield_answered(mailbox, ab_clock_now_ns() - left_ns);
}

static void
serve(Reader *self, struct ab_link *link, size_t *budget)
{
    Batcher *batcher = ab_object_of(link->batcher);
    if (batcher == NULL) {
        return;
    }
    ab_tell_link(batcher, link, budget);
    ab_dispatch_on_loop(batcher, link, self->loop);
    ab_watch_queued(batcher, self->loop);
    ab_deliver(batcher, NULL); // what the budget left, and who is due since
    Py_DECREF(batcher);
}

int
ab_call_soon(struct ab_state *state, PyObject *loop, PyObject *method,
             PyObject *callback)
{
    // A copy each time: a context cannot be entered twice at once.
    PyObject *context = PyContext_Copy(state->empty_context);
    if (context == NULL) {
        return -1;
    }
    PyObject *args[] = {loop, callback, context};
    PyObject *handle = PyObject_VectorcallMethod(
        method, args, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, state->kw_context);
    Py_DECREF(context);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

static PyObject *
Reader_call(PyObject *op, PyObject *Py_UNUSED(args),
            PyObject *Py_UNUSED(kwargs))
{
    Reader *self = Reader_CAST(op);
    struct ab_mailbox *mailbox = self->mailbox;
    if (mailbox == NULL) {
        Py_RETURN_NONE;
    }
    ab_mailbox_acquire(mailbox);
    if (ab_mailbox_take(mailbox)) {
        yield_interpreter(mailbox);
    }
    size_t budget = AB_TELL_BUDGET;
    struct ab_link *link;
    while (budget > 0 && !PyErr_Occurred() &&
           (link = ab_mailbox_next(mailbox)) != NULL) {
        struct ab_batcher *core = link->batcher;
        serve(self, link, &budget);
        ab_batcher_release(core);
    }
    PyObject *error = PyErr_GetRaisedException();
    if (ab_mailbox_has_next(mailbox) && self->loop != NULL &&
        ab_call_soon(self->state, self->loop, self->state->str_call_soon, op) <
            0) {
        ab_mailbox_write_fd(mailbox); // the other way in
        ab_report_error(op);
    }
    ab_mailbox_release(mailbox);
    if (error != NULL) {
        PyErr_SetRaisedException(error);
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
Reader_traverse(PyObject *op, visitproc visit, void *arg)
{
    Reader *self = Reader_CAST(op);
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    if (self->mailbox == NULL) {
        return 0;
    }
    // The references by which pending work keeps its batcher alive.
    ab_mutex_lock(&self->mailbox->mutex);
    int stop = 0;
    for (struct ab_link *link = self->mailbox->synced_data.kept;
         link != NULL && stop == 0; link = link->mailbox_data.next_kept) {
        stop = visit((PyObject *)link->batcher->object, arg);
    }
    ab_mutex_unlock(&self->mailbox->mutex);
    return stop;
}

static int
Reader_clear(PyObject *op)
{
    close_mailbox(Reader_CAST(op));
    Py_CLEAR(Reader_CAST(op)->loop);
    return 0;
}

static void
Reader_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    PyObject *error = PyErr_GetRaisedException();
    PyObject_ClearWeakRefs(op);
    (void)Reader_clear(op);
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMemberDef reader_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Reader, weakrefs), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_call, Reader_call},       {Py_tp_traverse, Reader_traverse},
    {Py_tp_clear, Reader_clear},     {Py_tp_dealloc, Reader_dealloc},
    {Py_tp_members, reader_members}, {0, NULL},
};

PyType_Spec ab_reader_spec = {
    .name = "async_batcher._core._Reader",
    .basicsize = sizeof(Reader),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = reader_slots,
};
