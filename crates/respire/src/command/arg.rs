//! What can be an argument of a command.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use super::Args;

/// A value that can be an argument of a command.
///
/// Text and bytes go out as they are, `true` and `false` as `1` and `0`, integers in decimal, floating-point numbers in
/// the shortest form that reads back as the same number (`inf`, `-inf` and `nan` as the servers spell them).
///
/// An `Option` is none: an argument left out would make the next one take its place.
pub trait ToArg {
    /// Adds the argument to those of a command. A type that stands for several may add several, or none.
    fn add_to(&self, args: &mut Args);

    /// As [`add_to`](Self::add_to), for a value that is not needed any more: a large one need not be copied.
    fn move_to(self, args: &mut Args)
    where
        Self: Sized,
    {
        self.add_to(args);
    }
}

macro_rules! bytes_to_arg {
    ($($type:ty),*) => {$(
        impl ToArg for $type {
            fn add_to(&self, args: &mut Args) {
                args.push(AsRef::<[u8]>::as_ref(self));
            }
        }
    )*};
}

bytes_to_arg!(str, [u8], BytesMut);

impl ToArg for Bytes {
    fn add_to(&self, args: &mut Args) {
        args.push_shared(self.clone());
    }

    fn move_to(self, args: &mut Args) {
        args.push_shared(self);
    }
}

macro_rules! owned_to_arg {
    ($($type:ty),*) => {$(
        impl ToArg for $type {
            fn add_to(&self, args: &mut Args) {
                args.push(self.as_ref());
            }

            fn move_to(self, args: &mut Args) {
                if self.len() < super::LARGE_BYTES {
                    self.add_to(args);
                } else {
                    args.push_shared(Bytes::from(self));
                }
            }
        }
    )*};
}

owned_to_arg!(String, Vec<u8>);

/// Both, one after the other: a field and its value.
impl<A: ToArg, B: ToArg> ToArg for (A, B) {
    fn add_to(&self, args: &mut Args) {
        self.0.add_to(args);
        self.1.add_to(args);
    }

    fn move_to(self, args: &mut Args) {
        self.0.move_to(args);
        self.1.move_to(args);
    }
}

/// All of them.
impl ToArg for Args {
    fn add_to(&self, args: &mut Args) {
        args.append(self);
    }
}

impl<T: ToArg + ToOwned + ?Sized> ToArg for Cow<'_, T> {
    fn add_to(&self, args: &mut Args) {
        (**self).add_to(args);
    }
}

impl<const N: usize> ToArg for [u8; N] {
    fn add_to(&self, args: &mut Args) {
        args.push(self);
    }
}

impl<T: ToArg + ?Sized> ToArg for &T {
    fn add_to(&self, args: &mut Args) {
        (**self).add_to(args);
    }
}

macro_rules! integer_to_arg {
    ($($type:ty),*) => {$(
        impl ToArg for $type {
            fn add_to(&self, args: &mut Args) {
                args.push(itoa::Buffer::new().format(*self).as_bytes());
            }
        }
    )*};
}

integer_to_arg!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

impl ToArg for bool {
    fn add_to(&self, args: &mut Args) {
        args.push(if *self { b"1" } else { b"0" });
    }
}

macro_rules! float_to_arg {
    ($($type:ty),*) => {$(
        impl ToArg for $type {
            fn add_to(&self, args: &mut Args) {
                if self.is_nan() {
                    return args.push(b"nan");
                }
                args.push(self.to_string().as_bytes());
            }
        }
    )*};
}

float_to_arg!(f32, f64);
