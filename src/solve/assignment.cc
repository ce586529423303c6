#include "solve/assignment.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "base/check.h"

namespace mezzotint {
namespace {

constexpr int kExchangePasses = 8;
constexpr int64_t kUnitsPerItem = 64;
constexpr int64_t kLeastUnits = 1 << 13;
constexpr int64_t kMostUnits = 1 << 16;

size_t smallest(const std::vector<AssignmentOption>& options) {
  size_t best = 0;
  for (size_t i = 1; i < options.size(); ++i) {
    const bool fewer = options[i].bytes < options[best].bytes;
    const bool same = options[i].bytes == options[best].bytes;
    if (fewer || (same && options[i].error < options[best].error)) best = i;
  }
  return best;
}

// The least error with bytes rounded up to units of budget / count: exact but for that rounding.
class Table {
 public:
  Table(const AssignmentMenu& menu, int64_t budget)
      : menu_(menu),
        units_(
            std::clamp(kUnitsPerItem * static_cast<int64_t>(menu.size()), kLeastUnits, kMostUnits)),
        budget_(budget),
        width_(static_cast<size_t>(units_) + 1),
        error_(width_, 0.0),
        option_(menu.size() * width_, kNone) {}

  // Empty where rounding leaves no room for the smallest options.
  Assignment best() {
    for (size_t item = 0; item < menu_.size(); ++item) add(item);
    if (error_.back() == kImpossible) return {};
    Assignment chosen(menu_.size());
    auto room = static_cast<size_t>(units_);
    for (size_t item = menu_.size(); item-- > 0;) {
      chosen[item] = option_[item * width_ + room];
      room -= cost(menu_[item][chosen[item]]);
    }
    return chosen;
  }

 private:
  static constexpr double kImpossible = std::numeric_limits<double>::infinity();
  static constexpr uint8_t kNone = 255;  // a menu is shorter

  size_t cost(const AssignmentOption& option) const {
    const double share = static_cast<double>(option.bytes) / static_cast<double>(budget_);
    return static_cast<size_t>(std::ceil(share * static_cast<double>(units_)));
  }

  void add(size_t item) {
    std::vector<double> next(width_, kImpossible);
    for (size_t i = 0; i < menu_[item].size(); ++i) {
      const size_t units = cost(menu_[item][i]);
      for (size_t room = units; room < width_; ++room) {
        const double error = error_[room - units] + menu_[item][i].error;
        if (error >= next[room]) continue;
        next[room] = error;
        option_[item * width_ + room] = static_cast<uint8_t>(i);
      }
    }
    error_ = std::move(next);
  }

  const AssignmentMenu& menu_;
  int64_t units_;
  int64_t budget_;
  size_t width_;
  std::vector<double> error_;    // by room, over the items so far
  std::vector<uint8_t> option_;  // of every item, by room
};

class Search {
 public:
  Search(const AssignmentMenu& menu, int64_t budget, Assignment start)
      : menu_(menu), chosen_(std::move(start)), room_(budget - assigned_bytes(menu, chosen_)) {}

  Assignment best() {
    climb();
    for (int pass = 0; pass < kExchangePasses && exchange_all(); ++pass) climb();
    return std::move(chosen_);
  }

 private:
  struct Step {
    size_t item;
    size_t option;
    double gain;  // error
    double rate;  // error per byte
  };

  const AssignmentOption& now(size_t item) const { return menu_[item][chosen_[item]]; }

  // The best step of one item to less error, within `room` more bytes.
  std::optional<Step> best_step(size_t item, int64_t room) const {
    std::optional<Step> best;
    for (size_t i = 0; i < menu_[item].size(); ++i) {
      const AssignmentOption& then = menu_[item][i];
      const int64_t more = then.bytes - now(item).bytes;
      const double gain = now(item).error - then.error;
      if (gain <= 0 || more > room) continue;
      // A step that costs nothing comes before all others.
      const double rate = gain / static_cast<double>(std::max<int64_t>(more, 1));
      if (!best || rate > best->rate) best = Step{item, i, gain, rate};
    }
    return best;
  }

  void take(size_t item, size_t option) {
    room_ -= menu_[item][option].bytes - now(item).bytes;
    chosen_[item] = option;
  }

  void climb() {
    while (true) {
      std::optional<Step> best;
      for (size_t item = 0; item < menu_.size(); ++item) {
        const std::optional<Step> step = best_step(item, room_);
        if (step && (!best || step->rate > best->rate)) best = step;
      }
      if (!best) return;
      take(best->item, best->option);
    }
  }

  // One item to fewer bytes, so that another one may take more of them than it may now.
  bool exchange(size_t giver) {
    for (size_t option = 0; option < menu_[giver].size(); ++option) {
      const int64_t freed = now(giver).bytes - menu_[giver][option].bytes;
      const double loss = menu_[giver][option].error - now(giver).error;
      if (freed <= 0) continue;
      std::optional<Step> best;
      for (size_t item = 0; item < menu_.size(); ++item) {
        if (item == giver) continue;
        for (size_t i = 0; i < menu_[item].size(); ++i) {
          const int64_t more = menu_[item][i].bytes - now(item).bytes;
          const double gain = now(item).error - menu_[item][i].error;
          if (more > room_ + freed || gain <= loss || (best && gain <= best->gain)) continue;
          best = Step{item, i, gain, 0};
        }
      }
      if (!best) continue;
      take(giver, option);
      take(best->item, best->option);
      return true;
    }
    return false;
  }

  bool exchange_all() {
    bool any = false;
    for (size_t item = 0; item < menu_.size(); ++item) any = exchange(item) || any;
    return any;
  }

  const AssignmentMenu& menu_;
  Assignment chosen_;
  int64_t room_;
};

}  // namespace

int64_t assigned_bytes(const AssignmentMenu& menu, const Assignment& chosen) {
  int64_t bytes = 0;
  for (size_t i = 0; i < menu.size(); ++i) bytes += menu[i][chosen[i]].bytes;
  return bytes;
}

double assigned_error(const AssignmentMenu& menu, const Assignment& chosen) {
  double error = 0;
  for (size_t i = 0; i < menu.size(); ++i) error += menu[i][chosen[i]].error;
  return error;
}

Assignment assign_options(const AssignmentMenu& menu, int64_t budget,
                          const std::vector<Assignment>& starts) {
  Assignment least;
  for (const auto& options : menu) {
    MZ_CHECK(!options.empty() && options.size() < 255);
    least.push_back(smallest(options));
  }
  if (menu.empty() || assigned_bytes(menu, least) > budget) return {};
  Assignment best = Search(menu, budget, std::move(least)).best();
  std::vector<Assignment> all = starts;
  if (budget > 0) all.push_back(Table(menu, budget).best());
  for (const Assignment& start : all) {
    if (start.empty()) continue;  // rounding left no room
    MZ_CHECK(start.size() == menu.size());
    if (assigned_bytes(menu, start) > budget) continue;
    Assignment found = Search(menu, budget, start).best();
    if (assigned_error(menu, found) < assigned_error(menu, best)) best = std::move(found);
  }
  return best;
}

}  // namespace mezzotint
