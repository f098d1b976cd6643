//! Structs whose fields are the columns of a row.
//!
//! Not here: what a row says (`spends` and others).

/// Declares a struct that is read from a row of any of `sqlx`'s databases, each field from the
/// column of its name. What `sqlx::FromRow` derives; its macros would compile the drivers twice.
#[macro_export]
macro_rules! from_row {
    (
        $(#[$of_all:meta])*
        $visible:vis struct $Name:ident {
            $($(#[$of_one:meta])* $shown:vis $column:ident: $Type:ty,)+
        }
    ) => {
        $(#[$of_all])*
        $visible struct $Name {
            $($(#[$of_one])* $shown $column: $Type,)+
        }

        impl<'r, R: sqlx::Row> sqlx::FromRow<'r, R> for $Name
        where
            &'static str: sqlx::ColumnIndex<R>,
            $($Type: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,)+
        {
            fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
                Ok(Self { $($column: row.try_get(stringify!($column))?,)+ })
            }
        }
    };
}
