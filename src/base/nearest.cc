#include "base/nearest.h"

#include <algorithm>
#include <utility>

namespace mezzotint {
namespace {

// Longer names are compared by their beginning: a hostile file may hold names of megabytes.
constexpr size_t kMaxCompared = 256;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b) {
  a = a.substr(0, kMaxCompared);
  b = b.substr(0, kMaxCompared);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = diagonal + (lower(a[i - 1]) == lower(b[j - 1]) ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replace});
    }
  }
  return row[b.size()];
}

std::vector<std::string> nearest_names(std::string_view name,
                                       std::span<const std::string_view> candidates, size_t limit) {
  std::vector<std::pair<size_t, size_t>> order;  // distance, index
  order.reserve(candidates.size());
  for (size_t i = 0; i < candidates.size(); ++i) {
    order.emplace_back(edit_distance(name, candidates[i]), i);
  }
  const size_t count = std::min(limit, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end());
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) names.emplace_back(candidates[order[i].second]);
  return names;
}

std::vector<std::string> nearest_names(std::string_view name,
                                       std::span<const std::string> candidates, size_t limit) {
  const std::vector<std::string_view> views(candidates.begin(), candidates.end());
  return nearest_names(name, std::span<const std::string_view>(views), limit);
}

std::string did_you_mean(std::span<const std::string> nearest) {
  std::string text;
  for (const std::string& name : nearest) text += (text.empty() ? "did you mean " : ", ") + name;
  return text.empty() ? text : text + "?";
}

}  // namespace mezzotint
