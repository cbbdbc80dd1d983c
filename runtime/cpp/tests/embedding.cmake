# Installs the build, builds the examples outside of the tree, where they know the installed package
# alone, and plays a bundle with them; docs/embedding.md is to show them as they are.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE failed)
  if(failed)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "failed: ${command}")
  endif()
endfunction()

# The first block of a language in the document has to be a file of the examples.
function(is_shown language file)
  string(FIND "${document}" "```${language}\n" begin)
  string(SUBSTRING "${document}" ${begin} -1 rest)
  string(REGEX REPLACE "^```[a-z]+\n" "" rest "${rest}")
  string(FIND "${rest}" "```" end)
  string(SUBSTRING "${rest}" 0 ${end} text)
  file(READ ${EXAMPLES}/${file} example)
  if(NOT text STREQUAL example)
    message(SEND_ERROR "docs/embedding.md does not show examples/${file} as it is")
  endif()
endfunction()

file(READ ${DOCUMENT} document)
is_shown(cmake CMakeLists.txt)
is_shown(cpp terse.cpp)
is_shown(c from_c.c)

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
file(COPY ${EXAMPLES}/ DESTINATION ${WORK}/project)
run(${CMAKE_COMMAND} -S ${WORK}/project -B ${WORK}/build -DCMAKE_PREFIX_PATH=${WORK}/prefix
    -DCMAKE_C_FLAGS=${C_FLAGS} -DCMAKE_CXX_FLAGS=${CXX_FLAGS})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/terse ${FILES}/toy null ${FILES}/in.safetensors ${WORK}/toy.ppm)
run(${WORK}/build/explained ${FILES}/toy null)
run(${WORK}/build/from_c ${FILES}/toy null)
if(EXISTS ${WORK}/prefix/bin/keepstep-run)
  run(${WORK}/prefix/bin/keepstep-run ${FILES}/toy --inputs ${FILES}/in.safetensors
      --backend null --png ${WORK}/toy.png)
endif()
