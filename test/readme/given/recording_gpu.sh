# A driver that records, in place of a GPU: the call is made, and what it computes is not looked at.
cmake --build build --target calibatt_fake_cuda
export CALIBATT_LIBCUDA=$PWD/build/lib/libcalibatt_fake_cuda.so
cp out/quickstart/sample.calibatt model.calibatt
