// One option for every item, so that a total of bytes holds and the summed error is small.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mezzotint {

struct AssignmentOption {
  int64_t bytes = 0;
  double error = 0;
};

using AssignmentMenu = std::vector<std::vector<AssignmentOption>>;  // of item i, at least one each
using Assignment = std::vector<size_t>;                             // an option of every item

// The chosen option of every item; empty when not even the smallest ones fit `budget`. A
// multiple-choice knapsack: from the smallest options, from the solution of the problem with
// rounded bytes, and from every one of `starts` that fits, the steps with the largest gain per byte
// are taken while they fit, then pairs of steps, one to fewer bytes and one to more, while the
// error falls. So it is never worse than a start that fits, and no single step to less error fits
// any more.
Assignment assign_options(const AssignmentMenu& menu, int64_t budget,
                          const std::vector<Assignment>& starts);

int64_t assigned_bytes(const AssignmentMenu& menu, const Assignment& chosen);
double assigned_error(const AssignmentMenu& menu, const Assignment& chosen);

}  // namespace mezzotint
