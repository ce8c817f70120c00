/* Whom to tell: futures of asyncio, futures of concurrent.futures, and
 * groups, which stand for one future of many items.
 */
#include "binding/state.h"

/* ---- groups ---- */

typedef struct {
    PyObject_HEAD PyObject *future; /* owned; asyncio.Future */
    PyObject *results;              /* owned; list */
    size_t left;                    // items not told yet
    bool returns_exceptions;
} Group;

#define Group_CAST(op) ((Group *)(op))

PyObject *
ab_future_new(struct ab_state *state, PyObject *loop)
{
#if PY_VERSION_HEX < 0x030C0000
    // Without a loop it looks for the running one, which calls getpid() there:
    // more than the keyword costs.
    PyObject *args[] = {NULL, loop};
    return PyObject_Vectorcall(state->Future, args + 1,
                               PY_VECTORCALL_ARGUMENTS_OFFSET, state->kw_loop);
#else
    (void)loop;
    return PyObject_CallNoArgs(state->Future);
#endif
}

PyObject *
ab_group_new(struct ab_state *state, PyObject *loop, size_t size, bool returns)
{
    PyTypeObject *type = state->group_type;
    Group *self = (Group *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->left = size;
    self->returns_exceptions = returns;
    self->future = ab_future_new(state, loop);
    self->results = PyList_New((Py_ssize_t)size);
    if (self->future == NULL || self->results == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    for (size_t i = 0; i < size; i++) {
        PyList_SET_ITEM(self->results, (Py_ssize_t)i, Py_NewRef(Py_None));
    }
    return (PyObject *)self;
}

PyObject *
ab_group_future(PyObject *group)
{
    return Group_CAST(group)->future;
}

static int
Group_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(Group_CAST(op)->future);
    Py_VISIT(Group_CAST(op)->results);
    return 0;
}

static int
Group_clear(PyObject *op)
{
    Py_CLEAR(Group_CAST(op)->future);
    Py_CLEAR(Group_CAST(op)->results);
    return 0;
}

static void
Group_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)Group_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot group_slots[] = {
    {Py_tp_traverse, Group_traverse},
    {Py_tp_clear, Group_clear},
    {Py_tp_dealloc, Group_dealloc},
    {0, NULL},
};

PyType_Spec ab_group_spec = {
    .name = "async_batcher._core._Group",
    .basicsize = sizeof(Group),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = group_slots,
};

/* ---- all kinds ---- */

int
ab_is_true_and_drop(PyObject *answer)
{
    if (answer == NULL) {
        return -1;
    }
    int truth = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return truth;
}

static bool
is_asyncio_future(struct ab_state *state, PyObject *waiter)
{
    return Py_IS_TYPE(waiter, (PyTypeObject *)state->Future);
}

static bool
is_group(struct ab_state *state, PyObject *waiter)
{
    return Py_IS_TYPE(waiter, state->group_type);
}

PyObject *
ab_waiter_future(struct ab_state *state, PyObject *waiter)
{
    return is_group(state, waiter) ? Group_CAST(waiter)->future : waiter;
}

int
ab_waiter_is_done(struct ab_state *state, PyObject *waiter)
{
    PyObject *answer;
    if (is_group(state, waiter)) {
        // One that failed goes on with its other items, as gather() does.
        answer = PyObject_CallMethodNoArgs(Group_CAST(waiter)->future,
                                           state->str_cancelled);
    }
    else if (is_asyncio_future(state, waiter)) {
        answer = PyObject_CallOneArg(state->future_done, waiter);
    }
    else {
        answer = PyObject_CallMethodNoArgs(waiter, state->str_done);
    }
    int is_done = ab_is_true_and_drop(answer);
    if (is_done < 0) {
        ab_report_error(waiter);
        return 0; // whoever tells it finds out
    }
    return is_done;
}

int
ab_waiter_begin(struct ab_state *state, PyObject *waiter)
{
    if (is_asyncio_future(state, waiter) || is_group(state, waiter)) {
        return !ab_waiter_is_done(state, waiter);
    }
    // From here on this future cannot be cancelled any more.
    int waits = ab_is_true_and_drop(PyObject_CallMethodNoArgs(
        waiter, state->str_set_running_or_notify_cancel));
    if (waits < 0) {
        ab_report_error(waiter);
        return 1; // its caller still waits
    }
    return waits;
}

void
ab_waiter_drop(struct ab_state *state, PyObject *waiter)
{
    if (is_group(state, waiter) ||
        PyObject_TypeCheck(waiter, (PyTypeObject *)state->Future)) {
        return;
    }
    int is_cancelled = ab_is_true_and_drop(
        PyObject_CallMethodNoArgs(waiter, state->str_cancelled));
    PyObject *answer =
        is_cancelled > 0 ? PyObject_CallMethodNoArgs(
                               waiter, state->str_set_running_or_notify_cancel)
                         : NULL;
    if (PyErr_Occurred()) {
        ab_report_error(waiter);
    }
    Py_XDECREF(answer);
}

/* An exception that a future can hold: a new reference.  A future refuses
 * StopIteration, and CancelledError would look like the caller's own. */
static PyObject *
presentable(struct ab_state *state, PyObject *error)
{
    PyObject *type = NULL;
    if (PyErr_GivenExceptionMatches(error, PyExc_StopIteration)) {
        type = PyExc_RuntimeError;
    }
    else if (PyErr_GivenExceptionMatches(error, state->CancelledError)) {
        type = state->BatchCancelledError;
    }
    if (type == NULL) {
        return Py_NewRef(error);
    }
    PyObject *own =
        PyObject_CallFunction(type, "s", "raised inside a batcher");
    if (own != NULL) {
        PyException_SetCause(own, Py_NewRef(error));
    }
    return own;
}

static int
set_value(struct ab_state *state, PyObject *future, PyObject *value,
          bool is_error)
{
    PyObject *answer;
    if (is_asyncio_future(state, future)) {
        PyObject *args[] = {future, value};
        answer = PyObject_Vectorcall(is_error ? state->future_set_exception
                                              : state->future_set_result,
                                     args, 2, NULL);
    }
    else {
        answer = PyObject_CallMethodOneArg(future,
                                           is_error ? state->str_set_exception
                                                    : state->str_set_result,
                                           value);
    }
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

/* The exception to set: a new reference. */
static PyObject *
make_error(struct ab_state *state, PyObject *value, enum ab_answer answer)
{
    if (answer != AB_ANSWER_SHARED) {
        return presentable(state, value);
    }
    PyObject *own = PyObject_CallOneArg(state->own_exception, value);
    if (own == NULL) {
        ab_report_error(state->own_exception); // not the user's: it is shown
        own = presentable(state, value);       // better shared than lost
    }
    return own;
}

static int
set_future(struct ab_state *state, PyObject *future, PyObject *value,
           enum ab_answer answer)
{
    if (answer == AB_ANSWER_RESULT) {
        return set_value(state, future, value, false);
    }
    PyObject *error = make_error(state, value, answer);
    if (error == NULL) {
        return -1;
    }
    int status = set_value(state, future, error, true);
    Py_DECREF(error);
    return status;
}

static int
tell_group(struct ab_state *state, Group *group, uint32_t index,
           PyObject *value, enum ab_answer answer)
{
    group->left--;
    int is_done = ab_is_true_and_drop(
        PyObject_CallOneArg(state->future_done, group->future));
    if (is_done != 0) {
        return is_done < 0 ? -1 : 0;
    }
    if (answer != AB_ANSWER_RESULT && !group->returns_exceptions) {
        return set_future(state, group->future, value, answer);
    }
    PyObject *own = answer == AB_ANSWER_SHARED
                        ? make_error(state, value, answer)
                        : Py_NewRef(value);
    if (own == NULL || PyList_SetItem(group->results, index, own) < 0) {
        return -1;
    }
    if (group->left > 0) {
        return 0;
    }
    return set_future(state, group->future, group->results, AB_ANSWER_RESULT);
}

void
ab_waiter_tell(struct ab_state *state, PyObject *waiter, uint32_t index,
               PyObject *value, enum ab_answer answer)
{
    PyObject *future = ab_waiter_future(state, waiter);
    int status =
        is_group(state, waiter)
            ? tell_group(state, Group_CAST(waiter), index, value, answer)
            : set_future(state, waiter, value, answer);
    if (status == 0) {
        return;
    }
    PyObject *error = PyErr_GetRaisedException();
    if (ab_waiter_is_done(state, future)) {
        ab_waiter_drop(state, waiter); // somebody cancelled it just now
    }
    else {
        // Memory ran out, or a signal handler raised: who is told nothing
        // waits for ever.
        status = future != waiter ? set_value(state, future, error, true)
                                  : set_future(state, waiter, value, answer);
        if (status < 0) {
            ab_report_error(waiter);
        }
    }
    PyErr_SetRaisedException(error);
    ab_drop_error();
}
