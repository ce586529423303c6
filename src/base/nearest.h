// "Did you mean": the names most like one that does not exist.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mezzotint {

// Insertions, deletions and replacements that turn a into b; ASCII case is ignored.
size_t edit_distance(std::string_view a, std::string_view b);

// Up to `limit` candidates by rising edit distance, equal ones in the given order.
std::vector<std::string> nearest_names(std::string_view name,
                                       std::span<const std::string_view> candidates,
                                       size_t limit = 5);
std::vector<std::string> nearest_names(std::string_view name,
                                       std::span<const std::string> candidates, size_t limit = 5);

// "did you mean a, b, c?", or "" without candidates: ready for Error's fix.
std::string did_you_mean(std::span<const std::string> nearest);

}  // namespace mezzotint
