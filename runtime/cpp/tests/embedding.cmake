# Installs the build, builds the project that docs/embedding.md shows against it, and plays a bundle
# with its programs. The project is outside of the tree and knows the installed package alone.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE failed)
  if(failed)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "failed: ${command}")
  endif()
endfunction()

# Writes the first block of a language in the document to a file.
function(extract language file)
  string(FIND "${document}" "```${language}\n" begin)
  string(SUBSTRING "${document}" ${begin} -1 rest)
  string(REGEX REPLACE "^```[a-z]+\n" "" rest "${rest}")
  string(FIND "${rest}" "```" end)
  string(SUBSTRING "${rest}" 0 ${end} text)
  file(WRITE ${file} "${text}")
endfunction()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
file(READ ${DOCUMENT} document)
extract(cmake ${WORK}/project/CMakeLists.txt)
extract(cpp ${WORK}/project/play.cpp)
extract(c ${WORK}/project/play.c)
run(${CMAKE_COMMAND} -S ${WORK}/project -B ${WORK}/build -DCMAKE_PREFIX_PATH=${WORK}/prefix
    -DCMAKE_C_FLAGS=${C_FLAGS} -DCMAKE_CXX_FLAGS=${CXX_FLAGS})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WRITE_TOY} ${WORK}/toy)
run(${WORK}/build/play_cpp ${WORK}/toy)
run(${WORK}/build/play_c ${WORK}/toy)
