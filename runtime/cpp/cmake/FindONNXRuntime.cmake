# Finds ONNX Runtime: the header of its C interface and its library, and makes the target
# ONNXRuntime::ONNXRuntime of them. ONNXRUNTIME_ROOT is a folder with include/ and lib/, such as
# its release packages have and runtime/cpp/take_onnxruntime.sh makes.
find_path(
  ONNXRuntime_INCLUDE_DIR onnxruntime_c_api.h
  HINTS ${ONNXRUNTIME_ROOT}
  PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session)
find_library(ONNXRuntime_LIBRARY onnxruntime HINTS ${ONNXRUNTIME_ROOT} PATH_SUFFIXES lib)
mark_as_advanced(ONNXRuntime_INCLUDE_DIR ONNXRuntime_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  ONNXRuntime
  REQUIRED_VARS ONNXRuntime_LIBRARY ONNXRuntime_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "give -DONNXRUNTIME_ROOT=, a folder with include/ and lib/")

if(ONNXRuntime_FOUND AND NOT TARGET ONNXRuntime::ONNXRuntime)
  add_library(ONNXRuntime::ONNXRuntime UNKNOWN IMPORTED)
  set_target_properties(
    ONNXRuntime::ONNXRuntime PROPERTIES IMPORTED_LOCATION ${ONNXRuntime_LIBRARY}
                                        INTERFACE_INCLUDE_DIRECTORIES ${ONNXRuntime_INCLUDE_DIR})
endif()
