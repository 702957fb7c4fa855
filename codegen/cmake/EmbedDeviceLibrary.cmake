# Script: writes a C++ file that holds the given files as raw strings.
#   cmake -DOUTPUT=out.cpp -DROOT=<repository> -DFILES=a.cuh,runtime/b.h -P EmbedDeviceLibrary.cmake
# A file below codegen/device is named relative to it, any other relative to ROOT.
string(REPLACE "," ";" files "${FILES}")
list(SORT files)
set(text "// Generated from codegen/device and the headers it shares with the host.\n")
string(APPEND text "#include \"codegen/DeviceLibrary.h\"\n\n")
string(APPEND text "namespace calibatt {\n\nextern const DeviceFile kDeviceFiles[] = {\n")
foreach(file IN LISTS files)
  file(READ "${ROOT}/${file}" content)
  string(REGEX REPLACE "^codegen/device/" "" name "${file}")
  string(APPEND text "    {\"${name}\", R\"calibatt(${content})calibatt\"},\n")
endforeach()
list(LENGTH files count)
string(APPEND text "};\nextern const unsigned kDeviceFileCount = ${count};\n\n} // namespace calibatt\n")
file(WRITE "${OUTPUT}" "${text}")
