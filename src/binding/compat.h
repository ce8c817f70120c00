/* Names that an older CPython lacks, with the newer one's meaning. */
#ifndef AB_BINDING_COMPAT_H
#define AB_BINDING_COMPAT_H

#include <Python.h>
#include <structmember.h> // T_PYSSIZET

#if PY_VERSION_HEX < 0x030D0000
static inline int
PyWeakref_GetRef(PyObject *ref, PyObject **out)
{
    PyObject *object = PyWeakref_GetObject(ref); // borrowed
    if (object == NULL) {
        *out = NULL;
        return -1;
    }
    *out = object != Py_None ? Py_NewRef(object) : NULL;
    return *out != NULL;
}

static inline int
PyObject_GetOptionalAttr(PyObject *object, PyObject *name, PyObject **out)
{
    *out = PyObject_GetAttr(object, name);
    if (*out != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}
#endif

#if PY_VERSION_HEX < 0x030B0000
static inline PyObject *
PyType_GetModuleByDef(PyTypeObject *type, PyModuleDef *def)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(type->tp_mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(type->tp_mro, i);
        PyObject *module = PyType_HasFeature(base, Py_TPFLAGS_HEAPTYPE)
                               ? PyType_GetModule(base) // borrowed
                               : NULL;
        if (module != NULL && PyModule_GetDef(module) == def) {
            return module;
        }
        PyErr_Clear();
    }
    PyErr_SetString(PyExc_TypeError, "no type of this module is a base");
    return NULL;
}
#endif

#if PY_VERSION_HEX < 0x030C0000
static inline PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL && traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

static inline void
PyErr_SetRaisedException(PyObject *exception)
{
    PyErr_Restore(Py_NewRef(Py_TYPE(exception)), exception,
                  PyException_GetTraceback(exception));
}
#endif

#endif
