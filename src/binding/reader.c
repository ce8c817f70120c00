/* The reader: how a loop serves its mailbox, and how its end is noticed.
 *
 * It is a callable that the loop watches the mailbox's fd with (or, where it
 * cannot watch one, keeps in a timer that is never due).  Nobody else holds a
 * reference for longer than a call: when the loop closes or dies, the reader's
 * finalization, which comes before anything is cleared, is the notice.
 */
#include "binding/reader.h"

#include "binding/batches.h"

#include "core/clock.h"
#include "core/crew.h"
#include "core/leave.h"
#include "core/registry.h"
#include "core/yield.h"

#define AB_TELL_BUDGET 1024 // waiters told in one loop iteration

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

/* Nobody is left who could run a batch: whoever waits would wait for ever. */
static void
reject_stranded(Batcher *self, PyObject *error)
{
    ab_mutex_lock(&self->core->mutex);
    bool is_stranded = self->core->synced_data.home == NULL &&
                       (self->core->synced_data.host == AB_HOST_LOOP ||
                        ab_workers_are_quitting());
    struct ab_link *link = ab_link_of_locked(self->core, NULL);
    ab_mutex_unlock(&self->core->mutex);
    if (is_stranded && link != NULL &&
        ab_refuse(self, link, AB_COLLECT_QUEUE | AB_COLLECT_BACKLOG, error) <
            0) {
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
                         &batch) != AB_OK) {
        PyErr_NoMemory();
        ab_report_error((PyObject *)self);
    }
    if (batch != NULL) {
        released = count_waiting(self, batch);
        // Its outboxes are those of a closed loop: dropped, not told.
        ab_batch_settle(batch, false, NULL, &todo);
        ab_batch_let_go(batch);
    }
    ab_finish_todo(self, NULL, &todo);
    PyObject *error = closed_error(self->state);
    if (error == NULL) {
        error = PyErr_GetRaisedException();
    }
    reject_hosted(self, link, error);
    todo = (struct ab_todo){0};
    ab_batcher_lost_loop(self->core, link, &todo);
    ab_finish_todo(self, NULL, &todo);
    reject_stranded(self, error);
    Py_DECREF(error);
    ab_deliver(self, NULL);
    return released;
}

static size_t
leave_loop_of(struct ab_batcher *core, struct ab_link *link)
{
    size_t released = 0;
    Batcher *batcher = ab_object_of(core);
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
        // Where warnings are errors.  At exit one may not even be made.
        if (PyErr_ExceptionMatches(PyExc_Warning)) {
            ab_report_error(NULL);
        }
        ab_drop_error();
    }
}

/* ---- the reader ---- */

static void
yield_interpreter(struct ab_mailbox *mailbox)
{
    int64_t left_ns = ab_clock_now_ns();
    ab_stay_detached();
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

static void
call_again(Reader *self, struct ab_mailbox *mailbox)
{
    if (self->loop != NULL &&
        ab_call_soon(self->state, self->loop, self->state->str_call_soon,
                     (PyObject *)self) < 0) {
        ab_mailbox_write_fd(mailbox); // the other way in
        ab_report_error((PyObject *)self);
    }
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
    bool is_called_again = false;
    struct ab_link *link;
    while (budget > 0 && !PyErr_Occurred() &&
           (link = ab_mailbox_next(mailbox)) != NULL) {
        // Before, and not after: what is called may run the loop on inside, or
        // raise, and the rest of the letters must not wait for it.
        if (!is_called_again && ab_mailbox_has_next(mailbox)) {
            is_called_again = true;
            call_again(self, mailbox);
        }
        struct ab_batcher *core = link->batcher;
        serve(self, link, &budget);
        ab_batcher_release(core);
    }
    ab_mailbox_release(mailbox);
    if (PyErr_Occurred()) {
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
    int stop = 0;
    // The references by which pending work keeps its batcher alive.
    ab_mutex_lock(&self->mailbox->mutex);
    for (struct ab_link *link = self->mailbox->synced_data.kept;
         link != NULL && stop == 0; link = link->mailbox_data.next_kept) {
        stop = visit((PyObject *)link->batcher->object, arg);
    }
    ab_mutex_unlock(&self->mailbox->mutex);
    return stop;
}

static void
Reader_finalize(PyObject *op)
{
    PyObject *error = PyErr_GetRaisedException();
    close_mailbox(Reader_CAST(op));
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
}

static int
Reader_clear(PyObject *op)
{
    Py_CLEAR(Reader_CAST(op)->loop);
    return 0;
}

static void
Reader_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    PyObject_ClearWeakRefs(op);
    (void)Reader_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMemberDef reader_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Reader, weakrefs), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_call, Reader_call},
    {Py_tp_traverse, Reader_traverse},
    {Py_tp_clear, Reader_clear},
    {Py_tp_dealloc, Reader_dealloc},
    {Py_tp_members, reader_members},
    {Py_tp_finalize, Reader_finalize},
    {0, NULL},
};

PyType_Spec ab_reader_spec = {
    .name = "async_batcher._core._Reader",
    .basicsize = sizeof(Reader),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = reader_slots,
};
