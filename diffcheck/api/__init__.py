"""What programs call: `check`, `gradcheck`, `assert_derivatives`."""
