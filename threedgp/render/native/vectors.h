// Vectors of numbers in and out of memory that is aligned to nothing but its numbers.

#pragma once

#include <cstring>

template <class Vector, class Number>
Vector load(const Number* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class Vector, class Number>
void store(Number* to, Vector vector) {
  std::memcpy(to, &vector, sizeof vector);
}
