//! Enums as the databases hold them: by name where people read the column, by code where every byte counts.

/// Implements storing by name (a `TEXT` column), reading, writing and parsing for a fieldless enum.
///
/// The enum derives diesel's `AsExpression` (with `sql_type = Text`) and `FromSqlRow` itself:
/// `stored_by_name!(State { Open => "OPEN", Done => "DONE" })`.
#[macro_export]
macro_rules! stored_by_name {
    ($type:ident { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As stored and written.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = ::std::string::String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => {
                        let names: Vec<_> = Self::ALL.iter().map(|one| one.name()).collect();
                        Err(format!("it is none of {}", names.join(", ")))
                    }
                }
            }
        }

        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<DB: ::diesel::backend::Backend>
            ::diesel::serialize::ToSql<::diesel::sql_types::Text, DB> for $type
        where
            str: ::diesel::serialize::ToSql<::diesel::sql_types::Text, DB>,
        {
            fn to_sql<'b>(
                &'b self,
                out: &mut ::diesel::serialize::Output<'b, '_, DB>,
            ) -> ::diesel::serialize::Result {
                ::diesel::serialize::ToSql::<::diesel::sql_types::Text, DB>::to_sql(
                    self.name(),
                    out,
                )
            }
        }

        impl<DB: ::diesel::backend::Backend>
            ::diesel::deserialize::FromSql<::diesel::sql_types::Text, DB> for $type
        where
            ::std::string::String: ::diesel::deserialize::FromSql<::diesel::sql_types::Text, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> ::diesel::deserialize::Result<Self> {
                let name = <::std::string::String as ::diesel::deserialize::FromSql<
                    ::diesel::sql_types::Text,
                    DB,
                >>::from_sql(bytes)?;
                name.parse().map_err(|error| format!("{name:?}: {error}").into())
            }
        }
    };
}

/// Implements storing by code (a `SMALLINT` column) for a fieldless enum; a code that is none is an error, not a guess.
///
/// The enum derives diesel's `AsExpression` (with `sql_type = SmallInt`) and `FromSqlRow` itself:
/// `stored_by_code!(State { Open => 0, Done => 1 })`.
#[macro_export]
macro_rules! stored_by_code {
    ($type:ident { $($variant:ident => $code:literal),+ $(,)? }) => {
        impl $type {
            /// As stored.
            pub const fn code(self) -> i16 {
                match self {
                    $(Self::$variant => $code),+
                }
            }
        }

        impl<DB: ::diesel::backend::Backend>
            ::diesel::serialize::ToSql<::diesel::sql_types::SmallInt, DB> for $type
        where
            i16: ::diesel::serialize::ToSql<::diesel::sql_types::SmallInt, DB>,
        {
            fn to_sql<'b>(
                &'b self,
                out: &mut ::diesel::serialize::Output<'b, '_, DB>,
            ) -> ::diesel::serialize::Result {
                // Each code lies in static memory, so that it outlives the statement, whatever the backend.
                let code: &'static i16 = match self {
                    $(Self::$variant => &$code),+
                };
                ::diesel::serialize::ToSql::<::diesel::sql_types::SmallInt, DB>::to_sql(code, out)
            }
        }

        impl<DB: ::diesel::backend::Backend>
            ::diesel::deserialize::FromSql<::diesel::sql_types::SmallInt, DB> for $type
        where
            i16: ::diesel::deserialize::FromSql<::diesel::sql_types::SmallInt, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> ::diesel::deserialize::Result<Self> {
                let code = <i16 as ::diesel::deserialize::FromSql<
                    ::diesel::sql_types::SmallInt,
                    DB,
                >>::from_sql(bytes)?;
                match code {
                    $($code => Ok(Self::$variant),)+
                    _ => Err(format!("{code} is no {}", stringify!($type)).into()),
                }
            }
        }
    };
}
