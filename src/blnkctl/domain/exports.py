"""What a database is asked for where a server lists nothing: the export of its keys, and the list of its owners.

Owns the SQL and the columns, which the documentation and the help quote. Knows neither psql nor who reads the answer.
No statement lets a secret out of the database: of the stored key, PostgreSQL tells the shape alone.
"""

EXPORT_COLUMNS = (
    "api_key_id",
    "owner",
    "name",
    "scopes",
    "expires_at",
    "created_at",
    "last_used_at",
    "revoked_at",
    "storage_scheme",
)

# A key that was never used has Go's zero time. A row that was revoked by hand may have no time of it.
EXPORT_SQL = """\
COPY (
  SELECT
    api_key_id,
    owner_id AS owner,
    name,
    array_to_json(scopes) AS scopes,
    to_char(expires_at AT TIME ZONE 'UTC',
      'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS expires_at,
    to_char(created_at AT TIME ZONE 'UTC',
      'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_at,
    CASE WHEN last_used_at > '0001-01-02T00:00:00Z'
      THEN to_char(last_used_at AT TIME ZONE 'UTC',
        'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END AS last_used_at,
    CASE WHEN is_revoked
      THEN to_char(coalesce(revoked_at, created_at) AT TIME ZONE 'UTC',
        'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
      END AS revoked_at,
    CASE
      WHEN key ~ '^[A-Za-z0-9_-]{43}=$' THEN 'plaintext'
      WHEN key ~ '^[0-9a-f]{64}$' THEN 'sha256'
      WHEN key ~ '^[$]2[aby][$][0-9]{2}[$][./A-Za-z0-9]{53}$' THEN 'bcrypt'
      ELSE 'unknown'
    END AS storage_scheme
  FROM blnk.api_keys
  ORDER BY api_keys.created_at, id
) TO STDOUT WITH (FORMAT csv, HEADER, ENCODING 'UTF8');
"""

OWNERS_SQL = "SELECT DISTINCT owner_id FROM blnk.api_keys ORDER BY owner_id"
