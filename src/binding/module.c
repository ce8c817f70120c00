/* The module `async_batcher._core`: its state, its types, the test clock. */
#include "binding/batches.h"

#include "core/aggregator.h"
#include "core/clock.h"
#include "core/crew.h"

#include <frameobject.h> // PyFrame_GetGenerator

static struct ab_state *
state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

/* ---- the test clock ---- */

PyDoc_STRVAR(freeze_doc, "_clock_freeze($module)\n--\n\n"
                         "Stop the batchers' clock.");
PyDoc_STRVAR(advance_doc, "_clock_advance($module, seconds, /)\n--\n\n"
                          "Move the frozen clock.");
PyDoc_STRVAR(resume_doc, "_clock_resume($module)\n--\n\n"
                         "Let the batchers' clock go on.");

static PyObject *
clock_freeze(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    ab_clock_freeze();
    ab_aggregator_wake();
    Py_RETURN_NONE;
}

static PyObject *
clock_advance(PyObject *Py_UNUSED(module), PyObject *seconds)
{
    double step_s = PyFloat_AsDouble(seconds);
    if (PyErr_Occurred()) {
        return NULL;
    }
    ab_clock_advance((int64_t)(step_s * 1e9));
    ab_aggregator_wake();
    Py_RETURN_NONE;
}

static PyObject *
clock_resume(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    ab_clock_thaw();
    ab_aggregator_wake();
    Py_RETURN_NONE;
}

/* _is_unfinished(frame): does a generator or coroutine still go on in it? */
static PyObject *
is_unfinished(PyObject *Py_UNUSED(module), PyObject *frame)
{
    if (!PyFrame_Check(frame)) {
        PyErr_SetString(PyExc_TypeError, "a frame is wanted");
        return NULL;
    }
#if PY_VERSION_HEX >= 0x030B0000
    PyObject *owner = PyFrame_GetGenerator((PyFrameObject *)frame);
#else
    PyObject *owner = Py_XNewRef(((PyFrameObject *)frame)->f_gen);
#endif
    bool is_owned = owner != NULL && owner != Py_None; // None: since 3.14
    Py_XDECREF(owner);
    return PyBool_FromLong(is_owned);
}

static PyMethodDef module_methods[] = {
    {"_is_unfinished", is_unfinished, METH_O, NULL},
    {"_clock_freeze", clock_freeze, METH_NOARGS, freeze_doc},
    {"_clock_advance", clock_advance, METH_O, advance_doc},
    {"_clock_resume", clock_resume, METH_NOARGS, resume_doc},
    {"_end_workers", ab_end_workers, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- filling the state ---- */

static PyObject *
import_from(const char *module, const char *name)
{
    PyObject *imported = PyImport_ImportModule(module);
    if (imported == NULL) {
        return NULL;
    }
    PyObject *object = PyObject_GetAttrString(imported, name);
    Py_DECREF(imported);
    return object;
}

static int
fill_names(struct ab_state *state)
{
#define AB_INTERN(name)                                                       \
    state->str_##name = PyUnicode_InternFromString(#name);                    \
    if (state->str_##name == NULL) {                                          \
        return -1;                                                            \
    }
    AB_NAMES(AB_INTERN)
#undef AB_INTERN
    state->kw_context = PyTuple_Pack(1, state->str_context);
    state->kw_batch = PyTuple_Pack(1, state->str_batch);
    state->kw_loop = PyTuple_Pack(1, state->str_loop);
    state->empty_context = PyContext_New();
    return state->kw_context != NULL && state->kw_batch != NULL &&
                   state->kw_loop != NULL && state->empty_context != NULL
               ? 0
               : -1;
}

static int
fill_imports(struct ab_state *state)
{
#define AB_IMPORT(module, name)                                               \
    state->name = import_from(module, #name);                                 \
    if (state->name == NULL) {                                                \
        return -1;                                                            \
    }
    AB_IMPORTS(AB_IMPORT)
#undef AB_IMPORT
    state->concurrent_future = import_from("concurrent.futures", "Future");
    state->future_done = PyObject_GetAttrString(state->Future, "done");
    state->future_set_result =
        PyObject_GetAttrString(state->Future, "set_result");
    state->future_set_exception =
        PyObject_GetAttrString(state->Future, "set_exception");
    return state->concurrent_future != NULL && state->future_done != NULL &&
                   state->future_set_result != NULL &&
                   state->future_set_exception != NULL
               ? 0
               : -1;
}

static int
add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **out)
{
    *out = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *out == NULL ? -1 : 0;
}

#if PY_VERSION_HEX < 0x030C0000
static PyObject *
gone(PyObject *Py_UNUSED(self), PyObject *const *Py_UNUSED(args),
     Py_ssize_t Py_UNUSED(nargs), PyObject *Py_UNUSED(kwnames))
{
    PyErr_SetString(PyExc_RuntimeError, "the interpreter is about to end");
    return NULL;
}

static PyMethodDef gone_def = {"gone", (PyCFunction)(void (*)(void))gone,
                               METH_FASTCALL | METH_KEYWORDS, NULL};

static void
forget_functions(PyObject *capsule)
{
    struct ab_state *state = PyCapsule_GetPointer(capsule, NULL);
    PyObject *function = PyCFunction_New(&gone_def, NULL);
    if (function == NULL) {
        PyErr_WriteUnraisable(capsule); // they stay
        return;
    }
#define AB_FORGET(module, name)                                               \
    if (state->name != NULL && !PyType_Check(state->name)) {                  \
        Py_XSETREF(state->name, Py_NewRef(function));                         \
    }
    AB_IMPORTS(AB_FORGET)
#undef AB_FORGET
    Py_DECREF(function);
}

/* asyncio's own C module remembers, where no collector looks, the types of all
 * coroutines that were none of Python's.  So one whose task ran keeps our
 * types and us, and through our functions asyncio itself: a next interpreter
 * in this process would find it in the state of the last.  The interpreter
 * empties what modules it cannot collect, and with our dict goes this. */
static int
forget_functions_at_the_end(PyObject *module)
{
    PyObject *capsule =
        PyCapsule_New(state_of(module), NULL, forget_functions);
    int failed = capsule == NULL ||
                 PyObject_SetAttrString(module, "_last", capsule) < 0;
    Py_XDECREF(capsule);
    return failed ? -1 : 0;
}
#else
static int
forget_functions_at_the_end(PyObject *Py_UNUSED(module))
{
    return 0;
}
#endif

static int
refuse_subinterpreter(void)
{
    if (PyInterpreterState_Get() == PyInterpreterState_Main()) {
        return 0;
    }
    PyErr_SetString(PyExc_ImportError,
                    "async_batcher works in the main interpreter only");
    return -1;
}

static int
module_exec(PyObject *module)
{
    struct ab_state *state = state_of(module);
    if (refuse_subinterpreter() < 0 || fill_names(state) < 0 ||
        fill_imports(state) < 0 ||
        add_type(module, &ab_batcher_spec, &state->batcher_type) < 0 ||
        add_type(module, &ab_reader_spec, &state->reader_type) < 0 ||
        add_type(module, &ab_run_spec, &state->run_type) < 0 ||
        add_type(module, &ab_group_spec, &state->group_type) < 0) {
        return -1;
    }
    state->end_workers = PyObject_GetAttrString(module, "_end_workers");
    if (state->end_workers == NULL ||
        forget_functions_at_the_end(module) < 0) {
        return -1;
    }
    ab_workers_resume();
    return PyModule_AddType(module, state->batcher_type);
}

/* ---- the end of the module ---- */

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct ab_state *state = state_of(module);
#define AB_VISIT(module, name) Py_VISIT(state->name);
    AB_IMPORTS(AB_VISIT)
#undef AB_VISIT
    Py_VISIT(state->concurrent_future);
    Py_VISIT(state->future_done);
    Py_VISIT(state->future_set_result);
    Py_VISIT(state->future_set_exception);
    Py_VISIT(state->empty_context);
    Py_VISIT(state->end_workers);
    Py_VISIT(state->batcher_type);
    Py_VISIT(state->reader_type);
    Py_VISIT(state->run_type);
    Py_VISIT(state->group_type);
    return 0;
}

static int
module_clear(PyObject *module)
{
    struct ab_state *state = state_of(module);
#define AB_CLEAR(name) Py_CLEAR(state->str_##name);
    AB_NAMES(AB_CLEAR)
#undef AB_CLEAR
#define AB_CLEAR(module, name) Py_CLEAR(state->name);
    AB_IMPORTS(AB_CLEAR)
#undef AB_CLEAR
    Py_CLEAR(state->concurrent_future);
    Py_CLEAR(state->future_done);
    Py_CLEAR(state->future_set_result);
    Py_CLEAR(state->future_set_exception);
    Py_CLEAR(state->empty_context);
    Py_CLEAR(state->kw_context);
    Py_CLEAR(state->kw_batch);
    Py_CLEAR(state->kw_loop);
    Py_CLEAR(state->end_workers);
    Py_CLEAR(state->batcher_type);
    Py_CLEAR(state->reader_type);
    Py_CLEAR(state->run_type);
    Py_CLEAR(state->group_type);
    return 0;
}

static void
module_free(void *module)
{
    (void)module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

PyModuleDef ab_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "async_batcher._core",
    .m_doc = "The native part of async_batcher.",
    .m_size = sizeof(struct ab_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&ab_module);
}
