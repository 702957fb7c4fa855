// Whether a call fits a package, in words that name both sides.
#pragma once

#include "runtime/format/Package.h"
#include "runtime/src/Device.h"

namespace calibatt {

/// Whether a call has the tokens, head_dim and scale that every kernel of the package is compiled
/// for, the dense one too; fills in the defaults of the last two.
Outcome checkCompiledFor(const PackageReader &package, calibatt_call_t &call);
/// Fills in the defaults of a call (contiguous strides, the package's scale and head_dim) and
/// checks everything but layer and step, and of pointers only that those given are aligned. `heads`
/// is the session's range.
Outcome checkCall(const PackageReader &package, HeadRange heads, const calibatt_call_t &call,
                  CheckedCall &checked);
/// Whether no output of a call that fits overlaps an input or the other output. Comes after a
/// device's own conditions, whose words say more where the type is wrong.
Outcome checkApart(CheckedCall &checked);
/// Whether the package has kernels for the call's layer and step.
Outcome checkSite(const PackageReader &package, const calibatt_call_t &call);
/// The anchor rows that repetition is scored against.
AnchorGrid calibrationGrid(const Manifest &manifest);
/// Whether what a call for energies asks for makes sense, but for the memory to work in.
Outcome checkEnergy(const PackageReader &package, const calibatt_call_t &call,
                    const calibatt_energy_t &energy);
/// q, k, v and o are given.
Outcome checkPointers(const calibatt_call_t &call);

} // namespace calibatt
