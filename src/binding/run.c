/* A batch being run: the coroutine that the batch's task drives, or the done
 * callback of its future in an executor.
 *
 * As a coroutine it passes on what process_batch awaits, and settles the
 * batch in the very step in which process_batch ends.  So the callers are
 * told without another round of the loop, no frame of ours is in their
 * tracebacks, and whatever was raised, KeyboardInterrupt included, ends here
 * and not in the loop.
 *
 * It owns its hold on the batch.  Dropped before it ended (its loop is
 * closed, its executor died), it rejects the batch.
 */
#include "binding/state.h"

typedef struct {
    PyObject_HEAD
    struct ab_state *state; /* borrowed; the type keeps the module alive */
    Batcher *batcher;       /* owned */
    struct ab_batch *batch; /* held; NULL once settled */
    PyObject *items;        /* owned; NULL once process_batch has them */
    PyObject *awaitable;    /* owned; what process_batch returned */
    PyObject *iterator;     /* owned; what awaiting it steps through */
    bool yields;            // counted by ab_yield_begin
} Run;

#define Run_CAST(op) ((Run *)(op))

PyObject *
ab_run_new(Batcher *batcher, struct ab_batch *batch, PyObject *items)
{
    PyTypeObject *type = batcher->state->run_type;
    Run *self = (Run *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = batcher->state;
    self->batcher = (Batcher *)Py_NewRef(batcher);
    self->batch = batch;
    self->items = Py_XNewRef(items);
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
ab_run_set_task(PyObject *run, PyObject *task)
{
    Run *self = Run_CAST(run);
    if (self->batch != NULL) {
        self->batch->task = Py_NewRef(task);
    }
}

/* ---- ending ---- */

static void
settle_result(Run *self, PyObject *result)
{
    struct ab_batch *batch = ab_run_take_batch((PyObject *)self);
    if (batch != NULL) {
        PyObject *loop = ab_running_loop(self->state);
        ab_settle_result(self->batcher, batch, result, loop);
        Py_XDECREF(loop);
    }
}

static void
settle_error(Run *self, PyObject *error)
{
    struct ab_batch *batch = ab_run_take_batch((PyObject *)self);
    if (batch != NULL) {
        PyObject *loop = ab_running_loop(self->state);
        ab_settle_error(self->batcher, batch, error, loop);
        Py_XDECREF(loop);
    }
}

static bool
has_caller(Run *self)
{
    struct ab_batch *batch = self->batch;
    bool has_any = false;
    for (size_t i = 0; batch != NULL && !has_any && i < batch->length; i++) {
        ab_mutex_lock(&batch->batcher->mutex);
        PyObject *waiter = batch->entries[i].waiter;
        Py_XINCREF(waiter);
        ab_mutex_unlock(&batch->batcher->mutex);
        has_any =
            waiter != NULL && !ab_waiter_is_done(self->state, waiter);
        Py_XDECREF(waiter);
    }
    return has_any;
}

/* process_batch ended with the exception that is set.  The callers have it;
 * the task ends without, but that a cancelled task ends cancelled, and that
 * what must stop the program is not lost where nobody is left to raise it. */
static PySendResult
end_with_error(Run *self, PyObject **out)
{
    PyObject *error = PyErr_GetRaisedException();
    bool is_cancelled =
        PyErr_GivenExceptionMatches(error, self->state->CancelledError);
    bool is_final =
        PyErr_GivenExceptionMatches(error, PyExc_KeyboardInterrupt)
        || PyErr_GivenExceptionMatches(error, PyExc_SystemExit);
    bool goes_on = is_cancelled || (is_final && !has_caller(self));
    settle_error(self, error);
    Py_CLEAR(self->iterator);
    Py_CLEAR(self->awaitable);
    if (goes_on) {
        PyErr_SetRaisedException(error);
        *out = NULL;
        return PYGEN_ERROR;
    }
    Py_DECREF(error);
    *out = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

static PySendResult
end_with_result(Run *self, PyObject *result, PyObject **out)
{
    Py_CLEAR(self->iterator);
    Py_CLEAR(self->awaitable);
    settle_result(self, result);
    Py_DECREF(result);
    *out = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

/* Nobody will step it any more. */
static void
drop(Run *self)
{
    if (self->batch != NULL) {
        PyObject *error = PyObject_CallFunction(
            self->state->BatchCancelledError, "s",
            "the batch was dropped by what ran it");
        if (error == NULL) {
            error = PyErr_GetRaisedException();
        }
        settle_error(self, error);
        Py_DECREF(error);
    }
    Py_CLEAR(self->items);
    Py_CLEAR(self->iterator);
    Py_CLEAR(self->awaitable);
}

/* ---- stepping ---- */

/* Call process_batch and find out how to step through what it returned. */
static int
begin(Run *self)
{
    PyObject *items = self->items;
    self->items = NULL;
    self->awaitable = ab_call_process_batch(self->batcher, items);
    Py_DECREF(items);
    if (self->awaitable == NULL) {
        return -1;
    }
    if (PyCoro_CheckExact(self->awaitable)) {
        self->iterator = Py_NewRef(self->awaitable);
        return 0;
    }
    PyAsyncMethods *methods = Py_TYPE(self->awaitable)->tp_as_async;
    if (methods == NULL || methods->am_await == NULL) {
        PyErr_Format(self->state->BatchResultError,
                     "process_batch is async but returned %.200s, which "
                     "cannot be awaited",
                     Py_TYPE(self->awaitable)->tp_name);
        return -1;
    }
    self->iterator = methods->am_await(self->awaitable);
    return self->iterator != NULL ? 0 : -1;
}

/* Code of process_batch runs from here on, on this thread. */
static PyObject *
enter(Run *self)
{
    Batcher *batcher = self->batcher;
    unsigned long thread = PyThread_get_thread_ident();
    if (self->batch != NULL) {
        atomic_store_explicit(&self->batch->thread, thread,
                              memory_order_relaxed);
    }
    if (batcher->core->synced_data.limits.concurrency != 1) {
        return NULL;
    }
    PyObject *task = PyObject_CallNoArgs(self->state->current_task);
    if (task == NULL) {
        PyErr_Clear(); // stepped by something else than a task
        return NULL;
    }
    batcher->inside_task = task;
    atomic_store_explicit(&batcher->inside_thread, thread,
                          memory_order_relaxed);
    return task;
}

static void
leave(Run *self, PyObject *task)
{
    if (self->batch != NULL) {
        atomic_store_explicit(&self->batch->thread, 0, memory_order_relaxed);
    }
    if (task != NULL) {
        atomic_store_explicit(&self->batcher->inside_thread, 0,
                              memory_order_relaxed);
        self->batcher->inside_task = NULL;
        Py_DECREF(task);
    }
}

static PySendResult
Run_send(PyObject *op, PyObject *value, PyObject **out)
{
    Run *self = Run_CAST(op);
    *out = NULL;
    if (self->items == NULL && self->iterator == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    PySendResult sent = PYGEN_ERROR;
    PyObject *task = enter(self);
    if (self->items == NULL || begin(self) == 0) {
        PyObject *iterator = Py_NewRef(self->iterator);
        sent = PyIter_Send(iterator, value, out);
        Py_DECREF(iterator);
    }
    leave(self, task);
    if (sent == PYGEN_NEXT) {
        return sent;
    }
    return sent == PYGEN_RETURN ? end_with_result(self, *out, out)
                                : end_with_error(self, out);
}

/* As a method of Python: what ends raises StopIteration. */
static PyObject *
answer(PySendResult sent, PyObject *out)
{
    if (sent == PYGEN_RETURN) {
        Py_DECREF(out); // always None
        PyErr_SetNone(PyExc_StopIteration);
        return NULL;
    }
    return out;
}

static PyObject *
Run_send_method(PyObject *op, PyObject *value)
{
    PyObject *out;
    PySendResult sent = Run_send(op, value, &out);
    return answer(sent, out);
}

static PyObject *
Run_iternext(PyObject *op)
{
    return Run_send_method(op, Py_None);
}

/* Throw into what process_batch awaits.  The value of a StopIteration that
 * comes back is its result. */
static PyObject *
throw_in(Run *self, PyObject *const *args, Py_ssize_t nargs,
         PyObject **result)
{
    *result = NULL;
    PyObject *method =
        PyObject_GetAttr(self->iterator, self->state->str_throw);
    if (method == NULL) {
        return NULL;
    }
    PyObject *yielded = PyObject_Vectorcall(method, args, (size_t)nargs, NULL);
    Py_DECREF(method);
    if (yielded == NULL && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyObject *stop = PyErr_GetRaisedException();
        *result = PyObject_GetAttrString(stop, "value");
        Py_DECREF(stop);
    }
    return yielded;
}

static void
raise_thrown(PyObject *const *args, Py_ssize_t nargs)
{
    if (PyExceptionInstance_Check(args[0])) {
        PyErr_SetObject((PyObject *)Py_TYPE(args[0]), args[0]);
    }
    else {
        PyErr_SetObject(args[0], nargs > 1 ? args[1] : NULL);
    }
}

static PyObject *
Run_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    Run *self = Run_CAST(op);
    if (nargs < 1 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "throw() takes 1 to 3 arguments");
        return NULL;
    }
    PyObject *out = NULL;
    if (self->iterator == NULL) {
        raise_thrown(args, nargs);
        if (self->items == NULL) {
            return NULL; // ended before
        }
        Py_CLEAR(self->items);
        return answer(end_with_error(self, &out), out);
    }
    PyObject *result;
    PyObject *task = enter(self);
    PyObject *yielded = throw_in(self, args, nargs, &result);
    leave(self, task);
    if (yielded != NULL) {
        return yielded;
    }
    PySendResult sent = result != NULL ? end_with_result(self, result, &out)
                                       : end_with_error(self, &out);
    return answer(sent, out);
}

static PyObject *
Run_close(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Run *self = Run_CAST(op);
    if (self->iterator != NULL) {
        PyObject *closed = PyObject_CallMethodNoArgs(self->iterator,
                                                     self->state->str_close);
        if (closed == NULL
            && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_WriteUnraisable(op);
        }
        PyErr_Clear();
        Py_XDECREF(closed);
    }
    drop(self);
    Py_RETURN_NONE;
}

/* ---- as a done callback ---- */

static PyObject *
executor_error(Run *self, PyObject *future)
{
    PyObject *cancelled =
        PyObject_CallMethodNoArgs(future, self->state->str_cancelled);
    if (cancelled == NULL) {
        return NULL;
    }
    int is_cancelled = PyObject_IsTrue(cancelled);
    Py_DECREF(cancelled);
    if (is_cancelled != 0) {
        return is_cancelled < 0
                   ? NULL
                   : PyObject_CallNoArgs(self->state->CancelledError);
    }
    PyObject *error =
        PyObject_CallMethodNoArgs(future, self->state->str_exception);
    if (error != NULL && error != Py_None) {
        Py_SETREF(error, PyObject_CallOneArg(self->state->executor_error,
                                             error));
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
        result =
            PyObject_CallMethodNoArgs(future, self->state->str_result);
    }
    if (result != NULL) {
        settle_result(self, result);
        Py_DECREF(result);
    }
    else {
        if (error == NULL) {
            error = PyErr_GetRaisedException();
        }
        settle_error(self, error);
    }
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
    Py_VISIT(self->items);
    Py_VISIT(self->awaitable);
    Py_VISIT(self->iterator);
    return 0;
}

static int
Run_clear(PyObject *op)
{
    drop(Run_CAST(op));
    Py_CLEAR(Run_CAST(op)->batcher);
    return 0;
}

static void
Run_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    PyObject *error = PyErr_GetRaisedException();
    (void)Run_clear(op);
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
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
    {Py_tp_clear, Run_clear},         {Py_tp_dealloc, Run_dealloc},
    {0, NULL},
};

PyType_Spec ab_run_spec = {
    .name = "async_batcher._core._Run",
    .basicsize = sizeof(Run),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = run_slots,
};
