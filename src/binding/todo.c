/* What the core leaves to do once its mutex is free. */
#include "binding/batches.h"

#include "core/clock.h"
#include "core/decide.h"
#include "core/intake.h"

static void
call_later(Batcher *self, PyObject *loop, int64_t due_ns)
{
    int64_t left_ns = due_ns - ab_clock_now_ns();
    PyObject *delay =
        PyFloat_FromDouble(left_ns > 0 ? (double)left_ns / 1e9 : 0.0);
    PyObject *look =
        PyObject_GetAttr((PyObject *)self, self->state->str__look);
    PyObject *handle = NULL;
    if (delay != NULL && look != NULL) {
        handle = PyObject_CallMethodObjArgs(loop, self->state->str_call_later,
                                            delay, look, NULL);
    }
    if (handle == NULL) {
        ab_report_error((PyObject *)self);
    }
    Py_XDECREF(handle);
    Py_XDECREF(look);
    Py_XDECREF(delay);
}

/* The home's loop is another one.  If it does not run, nobody knows whether
 * it ever will: the caller's takes over. */
static void
move_home(Batcher *self, PyObject *loop)
{
    if (ab_home_runs(self)) {
        return;
    }
    struct ab_todo todo = {0};
    ab_batcher_move_home(self->core, loop);
    struct ab_mailbox *mailbox = ab_mailbox_find(loop);
    if (mailbox != NULL) {
        ab_batcher_look(self->core, mailbox, &todo);
        todo.is_away = false;
        ab_mailbox_release(mailbox);
    }
    ab_finish_todo(self, loop, &todo);
}

void
ab_finish_todo(Batcher *self, PyObject *loop, struct ab_todo *todo)
{
    for (; todo->refs > 0; todo->refs--) {
        Py_INCREF(self);
    }
    struct ab_mailbox *wake = todo->wake;
    if (wake != NULL) {
        todo->wake = NULL;
        ab_wake_loop(self->state, wake);
        ab_mailbox_release(wake);
    }
    if (todo->start_worker) {
        todo->start_worker = false;
        ab_start_worker(self);
    }
    if (todo->start_run) {
        todo->start_run = false;
        ab_start_run(self, loop, false);
    }
    if (todo->is_away && loop != NULL) {
        todo->is_away = false;
        move_home(self, loop);
    }
    if (todo->retry_ns != 0 && loop != NULL) {
        int64_t due_ns = todo->retry_ns;
        todo->retry_ns = 0;
        call_later(self, loop, due_ns);
    }
    // The caller holds a reference of its own: these are not the last.
    for (; todo->refs < 0; todo->refs++) {
        Py_DECREF(self);
    }
}
