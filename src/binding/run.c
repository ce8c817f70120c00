/* A batch being run: the coroutine that the batch's task drives, or the done
 * callback of its future in an executor.
 *
 * As a coroutine it cuts its batch in its first step: the task is how a loop
 * is hinted by itself, and until it runs the batch goes on growing.  It passes
 * on what process_batch awaits, and settles the batch in the very step in
 * which process_batch ends.  So the callers are
 * told without another round of the loop, no frame of ours is in their
 * tracebacks, and whatever was raised, KeyboardInterrupt included, ends here
 * and not in the loop.
 *
 * It owns its hold on the batch.  Dropped before it ended (its loop is
 * closed, its executor died), it rejects the batch.
 */
#include "binding/run.h"

#include "core/decide.h"
#include "core/intake.h"
#include "core/yield.h"

PyObject *
ab_run_new(Batcher *batcher, PyObject *loop, struct ab_batch *batch)
{
    PyTypeObject *type = batcher->state->run_type;
    Run *self = (Run *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = batcher->state;
    self->batcher = (Batcher *)Py_NewRef(batcher);
    self->loop = Py_XNewRef(loop);
    self->is_due = self->is_starting = loop != NULL;
    self->batch = batch;
    return (PyObject *)self;
}

static void
end_yield(Run *self)
{
    if (self->yields) {
        self->yields = false;
        ab_yield_end();
    }
}

void
ab_run_begin_yield(PyObject *run)
{
#ifdef Py_GIL_DISABLED
    (void)run; // nobody waits for an interpreter lock
#else
    Run_CAST(run)->yields = true;
    ab_yield_begin();
#endif
}

struct ab_batch *
ab_run_take_batch(PyObject *run)
{
    Run *self = Run_CAST(run);
    struct ab_batch *batch = self->batch;
    self->batch = NULL;
    end_yield(self);
    return batch;
}

void
ab_run_forget(PyObject *run)
{
    Run_CAST(run)->is_due = false;
    Run_CAST(run)->is_forgotten = true;
    ab_run_drop(Run_CAST(run));
}

int
ab_run_set_task(PyObject *run, PyObject *task)
{
    Run *self = Run_CAST(run);
    self->is_starting = false;
    if (!self->is_due) {
        PyErr_SetString(self->state->BatchCancelledError,
                        "the task factory closed what it was to run");
        return -1;
    }
    self->task = Py_NewRef(task);
    // A loop that closes may drop it: what waits is told of that by itself.
    if (PyObject_SetAttr(task, self->state->str__log_destroy_pending,
                         Py_False) < 0) {
        ab_drop_error(); // another kind of task
    }
    return 0;
}

/* ---- ending ---- */

void
ab_run_settle_error(Run *self, PyObject *error, PyObject *loop)
{
    struct ab_batch *batch = ab_run_take_batch((PyObject *)self);
    if (batch != NULL) {
        ab_settle_error(self->batcher, batch, error, loop);
    }
}

void
ab_run_pass_on(Run *self)
{
    self->is_due = false;
    struct ab_mailbox *own = ab_mailbox_find(self->loop);
    if (own != NULL) {
        struct ab_todo todo = {0};
        ab_batcher_move_home(self->batcher->core, self->loop);
        ab_batcher_look(self->batcher->core, own, &todo);
        ab_finish_todo(self->batcher, self->loop, &todo);
        ab_mailbox_release(own);
    }
}

/* Its end, by what it has: results, an error for its batch, or for one that is
 * due. */
static void
end(Run *self)
{
    PyObject *loop = ab_running_loop(self->state);
    if (self->rows.rows != NULL) {
        ab_run_store_rest(self, loop);
        Py_XDECREF(loop);
        return;
    }
    PyErr_SetString(self->state->BatchCancelledError,
                    "the batch was dropped by what ran it");
    if (self->batch != NULL) {
        PyObject *error = PyErr_GetRaisedException();
        ab_run_settle_error(self, error, loop);
        Py_DECREF(error);
    }
    // A loop that closes drops its tasks, too, but it does not run then, or
    // another one does: its reader gives notice, and that may take the batch.
    else if (loop != NULL && loop == self->loop) {
        ab_reject_due(self->batcher, loop);
    }
    else {
        PyErr_Clear();
    }
    Py_XDECREF(loop);
}

void
ab_run_clear(Run *self)
{
    Py_CLEAR(self->iterator);
    Py_CLEAR(self->awaitable);
    Py_CLEAR(self->task);
    Py_CLEAR(self->loop);
}

void
ab_run_drop(Run *self)
{
    bool is_due = self->is_due && !self->is_starting;
    self->is_due = self->is_paused = false;
    if (is_due || self->batch != NULL) {
        end(self);
    }
    Py_CLEAR(self->items);
    ab_run_clear(self);
}

/* ---- as a done callback ---- */

static PyObject *
executor_error(Run *self, PyObject *future)
{
    // One that is not done would be waited for, and the loop with it.
    int is_done = ab_is_true_and_drop(
        PyObject_CallMethodNoArgs(future, self->state->str_done));
    if (is_done <= 0) {
        if (is_done == 0) {
            PyErr_SetString(self->state->BatchCancelledError,
                            "the executor called back before it was done");
        }
        return NULL;
    }
    int is_cancelled = ab_is_true_and_drop(
        PyObject_CallMethodNoArgs(future, self->state->str_cancelled));
    if (is_cancelled != 0) {
        return is_cancelled < 0
                   ? NULL
                   : PyObject_CallNoArgs(self->state->CancelledError);
    }
    PyObject *error =
        PyObject_CallMethodNoArgs(future, self->state->str_exception);
    if (error != NULL && error != Py_None) {
        Py_SETREF(error,
                  PyObject_CallOneArg(self->state->executor_error, error));
    }
    return error;
}

static PyObject *
Run_call(PyObject *op, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    Run *self = Run_CAST(op);
    PyObject *future;
    if (!PyArg_UnpackTuple(args, "_Run", 1, 1, &future)) {
        return NULL;
    }
    PyObject *result = NULL;
    PyObject *error = executor_error(self, future);
    if (error == Py_None) {
        Py_CLEAR(error);
        result = PyObject_CallMethodNoArgs(future, self->state->str_result);
    }
    if (result == NULL && error == NULL) {
        error = PyErr_GetRaisedException();
    }
    PyObject *loop = ab_running_loop(self->state);
    if (result != NULL) {
        struct ab_batch *batch = ab_run_take_batch(op);
        if (batch != NULL) {
            ab_settle_result(self->batcher, batch, result, loop);
        }
    }
    else {
        ab_run_settle_error(self, error, loop);
    }
    Py_XDECREF(loop);
    Py_XDECREF(result);
    Py_XDECREF(error);
    Py_RETURN_NONE;
}

/* ---- the object ---- */

static int
Run_traverse(PyObject *op, visitproc visit, void *arg)
{
    Run *self = Run_CAST(op);
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->batcher);
    Py_VISIT(self->task);
    Py_VISIT(self->loop);
    Py_VISIT(self->items);
    Py_VISIT(self->rows.rows);
    Py_VISIT(self->rows.seen);
    Py_VISIT(self->awaitable);
    Py_VISIT(self->iterator);
    return 0;
}

/* Here, and not in dealloc: the collector finalizes all that it found before
 * it clears any of it, so what is called here works. */
static void
Run_finalize(PyObject *op)
{
    PyObject *error = PyErr_GetRaisedException();
    ab_run_drop(Run_CAST(op));
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
}

static int
Run_clear(PyObject *op)
{
    Run *self = Run_CAST(op);
    Py_CLEAR(self->items);
    ab_rows_clear(&self->rows);
    ab_run_clear(self);
    Py_CLEAR(self->batcher);
    return 0;
}

static void
Run_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    (void)Run_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
Run_name(PyObject *op, void *Py_UNUSED(closure))
{
    PyTypeObject *type = Py_TYPE(Run_CAST(op)->batcher);
    return PyUnicode_FromFormat("%s.process_batch", type->tp_name);
}

static PyGetSetDef run_getset[] = {
    {"__name__", Run_name, NULL, NULL, NULL},
    {"__qualname__", Run_name, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef run_methods[] = {
    {"send", Run_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))Run_throw, METH_FASTCALL, NULL},
    {"close", Run_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot run_slots[] = {
    {Py_am_await, PyObject_SelfIter}, {Py_am_send, Run_send},
    {Py_tp_iter, PyObject_SelfIter},  {Py_tp_iternext, Run_iternext},
    {Py_tp_call, Run_call},           {Py_tp_methods, run_methods},
    {Py_tp_getset, run_getset},       {Py_tp_traverse, Run_traverse},
    {Py_tp_clear, Run_clear},         {Py_tp_finalize, Run_finalize},
    {Py_tp_dealloc, Run_dealloc},     {0, NULL},
};

PyType_Spec ab_run_spec = {
    .name = "async_batcher._core._Run",
    .basicsize = sizeof(Run),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = run_slots,
};
