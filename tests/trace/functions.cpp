// Functions whose autograd is written in C++, right and wrong ones.
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// x³, by a detour over what a forward may do: detach, memory of its own, writing in place. Its backward is `factor` x².
template <int factor>
struct Cube : public torch::autograd::Function<Cube<factor>> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x) {
    ctx->save_for_backward({x});
    auto y = at::empty_like(x);
    y.copy_(x.detach().mul(x));
    return y.mul_(x);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto x = ctx->get_saved_variables()[0];
    return {x.mul(x).mul(factor).mul(grads[0])};
  }
};

Tensor cube(const Tensor& x) { return Cube<3>::apply(x); }
Tensor wrong_cube(const Tensor& x) { return Cube<2>::apply(x); }

// x² times x, the square being a constant to autograd.
Tensor guarded(const Tensor& x) {
  Tensor square;
  {
    at::NoGradGuard guard;
    square = x.mul(x);
  }
  return square.mul(x);
}

TORCH_LIBRARY(diffcheck_functions, m) {
  m.def("cube(Tensor x) -> Tensor", &cube);
  m.def("wrong_cube(Tensor x) -> Tensor", &wrong_cube);
  m.def("guarded(Tensor x) -> Tensor", &guarded);
}
