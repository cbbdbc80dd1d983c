# The backend for NVIDIA GPUs: TensorRT-RTX or TensorRT, and CUDA's runtime.
#
#   KEEPSTEP_TENSORRT_INCLUDE  the folder of NvInfer.h
#   KEEPSTEP_TENSORRT_LIBRARY  the library; left out: the one in Python's package tensorrt_rtx or
#                              tensorrt
#   KEEPSTEP_CUDA_ROOT         a folder with include and lib of CUDA's runtime; left out: the
#                              toolkit that CMake finds
#
# Libraries are linked by their absolute place, so an installed package needs to find nothing again.

set(KEEPSTEP_TENSORRT_LIBRARY "" CACHE FILEPATH "libtensorrt_rtx.so or libnvinfer.so")
set(KEEPSTEP_CUDA_ROOT "" CACHE PATH "Folder of CUDA's runtime; empty: the toolkit is looked for")

if(NOT KEEPSTEP_TENSORRT_LIBRARY)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND
      ${Python3_EXECUTABLE} -c
      "import importlib.util as u
for name in ('tensorrt_rtx_libs', 'tensorrt_libs'):
    found = u.find_spec(name)
    if found is not None:
        print(found.submodule_search_locations[0])
        break"
    OUTPUT_VARIABLE folder
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  file(GLOB found "${folder}/libtensorrt_rtx.so*" "${folder}/libnvinfer.so*")
  if(NOT folder OR NOT found)
    message(FATAL_ERROR "No TensorRT in the packages of ${Python3_EXECUTABLE}: install "
                        "tensorrt_rtx or tensorrt there, or give -DKEEPSTEP_TENSORRT_LIBRARY=")
  endif()
  list(GET found 0 found)
  set(KEEPSTEP_TENSORRT_LIBRARY ${found} CACHE FILEPATH "libtensorrt_rtx.so or libnvinfer.so" FORCE)
endif()

if(KEEPSTEP_CUDA_ROOT)
  set(cuda_include ${KEEPSTEP_CUDA_ROOT}/include)
  file(GLOB cuda_library ${KEEPSTEP_CUDA_ROOT}/lib/libcudart.so*
       ${KEEPSTEP_CUDA_ROOT}/lib64/libcudart.so*)
  if(NOT cuda_library OR NOT EXISTS ${cuda_include}/cuda_runtime_api.h)
    message(FATAL_ERROR "No include/cuda_runtime_api.h and lib/libcudart.so in "
                        "${KEEPSTEP_CUDA_ROOT}")
  endif()
  list(GET cuda_library 0 cuda_library)
else()
  find_package(CUDAToolkit REQUIRED)
  set(cuda_include ${CUDAToolkit_INCLUDE_DIRS})
  set(cuda_library ${CUDA_cudart_LIBRARY})
endif()

if(NOT EXISTS ${KEEPSTEP_TENSORRT_INCLUDE}/NvInfer.h)
  message(FATAL_ERROR "There is no ${KEEPSTEP_TENSORRT_INCLUDE}/NvInfer.h")
endif()

set(tensorrt_definitions KEEPSTEP_TENSORRT)
if(KEEPSTEP_TENSORRT_LIBRARY MATCHES "tensorrt_rtx[^/]*$")
  list(APPEND tensorrt_definitions KEEPSTEP_TENSORRT_RTX)
endif()

target_sources(
  keepstep_objects
  PRIVATE src/backends/cuda.cpp src/backends/cuda_memory.cpp src/backends/cuda_session.cpp
          src/backends/tensorrt.cpp src/backends/tensorrt_contexts.cpp
          src/backends/tensorrt_engine.cpp)
target_compile_definitions(keepstep_objects PUBLIC ${tensorrt_definitions})
target_include_directories(keepstep_objects SYSTEM PUBLIC ${KEEPSTEP_TENSORRT_INCLUDE}
                                                          ${cuda_include})
set(tensorrt_libraries ${KEEPSTEP_TENSORRT_LIBRARY} ${cuda_library})
target_link_libraries(keepstep_objects PUBLIC ${tensorrt_libraries})
target_link_libraries(keepstep_runtime PRIVATE ${tensorrt_libraries})
