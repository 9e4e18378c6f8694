//! The macro for enums whose values have a name on the wire and in the table.

/// Declares such an enum; each value is stated once, with its name.
macro_rules! names {
    (
        $(#[$attribute:meta])*
        $vis:vis enum $Enum:ident {
            $($(#[$variant_attribute:meta])* $Variant:ident = $name:literal),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $Enum {
            $($(#[$variant_attribute])* $Variant),+
        }

        impl $Enum {
            /// Every value, in the order of the specification.
            $vis const ALL: &'static [Self] = &[$(Self::$Variant),+];

            /// The name on the wire and in the table.
            #[must_use]
            $vis fn as_str(self) -> &'static str {
                match self {
                    $(Self::$Variant => $name),+
                }
            }

            /// The value of that name, or `None`.
            #[must_use]
            $vis fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
            }
        }

        impl $crate::write::Write for $Enum {
            fn write(&self, out: &mut Vec<u8>) {
                self.as_str().write(out);
            }
        }

        impl ::serde::Serialize for $Enum {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

pub(crate) use names;
