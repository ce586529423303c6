// The lock around OpenBLAS's scratch buffers (memory_lock.cc). Only its test needs this header.
#pragma once

#include <cstdint>

namespace mezzotint::blas {

// How many of OpenBLAS's buffers were taken under our lock.
int64_t locked_allocations() noexcept;

}  // namespace mezzotint::blas
