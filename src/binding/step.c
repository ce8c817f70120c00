/* The run of an async batch as the coroutine that its task steps. */
#include "binding/run.h"

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
        has_any = waiter != NULL && !ab_waiter_is_done(self->state, waiter);
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
        PyErr_GivenExceptionMatches(error, PyExc_KeyboardInterrupt) ||
        PyErr_GivenExceptionMatches(error, PyExc_SystemExit);
    bool goes_on = is_cancelled || (is_final && !has_caller(self));
    ab_run_settle_error(self, error, self->loop);
    ab_run_clear(self);
    if (goes_on) {
        PyErr_SetRaisedException(error);
        *out = NULL;
        return PYGEN_ERROR;
    }
    Py_DECREF(error);
    *out = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

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
    PyObject *awaitable = Py_NewRef(self->awaitable); // it may close us
    self->iterator = methods->am_await(awaitable);
    Py_DECREF(awaitable);
    return self->iterator != NULL ? 0 : -1;
}

/* Code of process_batch runs from here on, on this thread. */
static void
enter(Run *self)
{
    if (self->batch != NULL) {
        atomic_store_explicit(&self->batch->thread,
                              PyThread_get_thread_ident(),
                              memory_order_relaxed);
    }
    // Relaxed, as the thread above: both are read by this very thread.
    atomic_fetch_add_explicit(&self->batcher->steps, 1, memory_order_relaxed);
}

static void
leave(Run *self)
{
    if (self->batch != NULL) {
        atomic_store_explicit(&self->batch->thread, 0, memory_order_relaxed);
    }
    atomic_fetch_sub_explicit(&self->batcher->steps, 1, memory_order_relaxed);
}

PySendResult
Run_send(PyObject *op, PyObject *value, PyObject **out)
{
    Run *self = Run_CAST(op);
    PySendResult sent = PYGEN_ERROR;
    *out = NULL;
    if (self->is_due || self->is_paused) {
        *out = Py_NewRef(Py_None);
        if (self->is_starting) {
            return PYGEN_NEXT; // an eager task: the batch is still gathering
        }
        if (!ab_run_cut(self, &sent)) {
            return sent;
        }
        Py_CLEAR(*out);
        sent = PYGEN_ERROR;
    }
    if (self->rows.rows != NULL) {
        return ab_run_store(self, out);
    }
    if (self->is_forgotten) {
        *out = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (self->items == NULL && self->iterator == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    enter(self);
    if (self->items == NULL || begin(self) == 0) {
        PyObject *iterator = Py_NewRef(self->iterator);
        sent = PyIter_Send(iterator, value, out);
        Py_DECREF(iterator);
    }
    leave(self);
    if (sent == PYGEN_NEXT) {
        return sent;
    }
    return sent == PYGEN_RETURN ? ab_run_end_with_result(self, *out, out)
                                : end_with_error(self, out);
}

/* As a method of Python: what ends raises StopIteration. */
static PyObject *
answer(PySendResult sent, PyObject *out)
{
    if (sent == PYGEN_RETURN) {
        Py_XDECREF(out); // always None
        PyErr_SetNone(PyExc_StopIteration);
        return NULL;
    }
    return out;
}

PyObject *
Run_send_method(PyObject *op, PyObject *value)
{
    PyObject *out;
    PySendResult sent = Run_send(op, value, &out);
    return answer(sent, out);
}

PyObject *
Run_iternext(PyObject *op)
{
    return Run_send_method(op, Py_None);
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

/* Throw into what process_batch awaits.  The value of a StopIteration that
 * comes back is its result. */
static PyObject *
throw_in(Run *self, PyObject *const *args, Py_ssize_t nargs, PyObject **result)
{
    *result = NULL;
    PyObject *method;
    // Held by the bound method: what is thrown into may close this run.
    int has_method = PyObject_GetOptionalAttr(self->iterator,
                                              self->state->str_throw, &method);
    if (has_method <= 0) {
        if (has_method == 0) {
            raise_thrown(args, nargs); // as `yield from` does
        }
        return NULL;
    }
    PyObject *yielded = PyObject_Vectorcall(method, args, (size_t)nargs, NULL);
    Py_DECREF(method);
    if (yielded == NULL && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyObject *stop = PyErr_GetRaisedException();
        *result = PyObject_GetAttr(stop, self->state->str_value);
        Py_DECREF(stop);
    }
    return yielded;
}

PyObject *
Run_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    Run *self = Run_CAST(op);
    if (nargs < 1 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "throw() takes 1 to 3 arguments");
        return NULL;
    }
    PyObject *out = NULL;
    if (self->is_due) {
        ab_run_pass_on(self);
        ab_run_clear(self);
        raise_thrown(args, nargs);
        return NULL;
    }
    if (self->rows.rows != NULL) { // process_batch ended before
        ab_run_store_rest(self, self->loop);
        ab_run_clear(self);
        raise_thrown(args, nargs);
        return NULL;
    }
    if (self->iterator == NULL) {
        raise_thrown(args, nargs);
        if (self->items == NULL && !self->is_paused) {
            return NULL; // ended before
        }
        self->is_paused = false;
        Py_CLEAR(self->items);
        return answer(end_with_error(self, &out), out);
    }
    PyObject *result;
    enter(self);
    PyObject *yielded = throw_in(self, args, nargs, &result);
    leave(self);
    if (yielded != NULL) {
        return yielded;
    }
    PySendResult sent = result != NULL
                            ? ab_run_end_with_result(self, result, &out)
                            : end_with_error(self, &out);
    return answer(sent, out);
}

PyObject *
Run_close(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Run *self = Run_CAST(op);
    if (self->iterator != NULL) {
        PyObject *iterator = Py_NewRef(self->iterator); // it may close us
        PyObject *closed =
            PyObject_CallMethodNoArgs(iterator, self->state->str_close);
        Py_DECREF(iterator);
        if (closed == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            ab_report_error(op);
        }
        PyErr_Clear();
        Py_XDECREF(closed);
    }
    ab_run_drop(self);
    Py_RETURN_NONE;
}
