"""The SQL statements of an index in PostgreSQL, with {table} and {filter} to be filled in."""

# Number of items with the highest priors that are added to the HNSW candidates.
_POPULAR = 10_000
# Building a graph of existing rows is 8 times faster than adding row by row, so the graph is made
# at the end of the first upsert, without a time limit.
HAS_GRAPH = """\
SELECT 1 FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_am AS a ON a.oid = c.relam WHERE i.indrelid = %s AND a.amname = 'hnsw'
"""
CREATE_GRAPH = (
    "SET LOCAL statement_timeout = 0",
    """\
CREATE INDEX ON {table} USING hnsw (embedding vector_ip_ops) WITH (m = 16, ef_construction = 64)
""",
)
UPSERT = """\
INSERT INTO {table} (id, text, metadata, embedding)
SELECT id, text, metadata, embedding
FROM unnest(%b::text[], %b::text[], %b::text[]::jsonb[], %b::vector[])
    WITH ORDINALITY AS given(id, text, metadata, embedding, place)
ORDER BY place
ON CONFLICT (id) DO UPDATE
SET text = excluded.text, metadata = excluded.metadata, embedding = excluded.embedding
"""
_COLUMNS = "t.id, t.text, t.metadata, t.embedding, t.seq, t.tableoid"
_SIMILARITY = "(t.embedding <#> %(query)b) * -1"
SEARCH = f"""\
SELECT {_COLUMNS}, {_SIMILARITY} AS score
FROM {{table}} AS t WHERE {{filter}}
ORDER BY score DESC, t.seq LIMIT %(limit)b
"""
# With priors, only ids and scores are joined and sorted; then the rows of the best are looked up.
# Otherwise the planner would sort all rows with their vectors if the table was not yet analysed.
_PRIOR = """\
prior AS (
    SELECT id, value FROM unnest(%(ids)b::text[], %(values)b::float8[]) AS given(id, value)
)"""
_BEST = f"""\
best AS (
    SELECT scored.id, scored.similarity + coalesce(prior.value, %(default)b) AS score
    FROM scored LEFT JOIN prior USING (id)
    ORDER BY score DESC, scored.seq LIMIT %(limit)b
)
SELECT {_COLUMNS}, best.score
FROM best JOIN {{table}} AS t USING (id)
ORDER BY best.score DESC, t.seq
"""
SEARCH_PRIORS = f"""\
WITH {_PRIOR},
scored AS MATERIALIZED (
    SELECT t.id, t.seq, {_SIMILARITY} AS similarity FROM {{table}} AS t WHERE {{filter}}
),
{_BEST}"""
SEARCH_GRAPH = f"""\
WITH {_PRIOR},
near AS MATERIALIZED (
    SELECT t.id FROM {{table}} AS t WHERE {{filter}}
    ORDER BY t.embedding <#> %(query)b LIMIT %(candidates)b
),
popular AS (
    SELECT id FROM prior WHERE value > %(default)b ORDER BY value DESC LIMIT {_POPULAR}
),
candidate AS (SELECT id FROM near UNION SELECT id FROM popular),
scored AS MATERIALIZED (
    SELECT t.id, t.seq, {_SIMILARITY} AS similarity
    FROM candidate JOIN {{table}} AS t USING (id) WHERE {{filter}}
),
{_BEST}"""
SET_CANDIDATES = "SELECT set_config('hnsw.ef_search', %s, true)"
FETCH = f"""\
SELECT {_COLUMNS}
FROM unnest(%b::text[]) WITH ORDINALITY AS wanted(id, place) JOIN {{table}} AS t USING (id)
ORDER BY wanted.place
"""
SAMPLE = f"SELECT {_COLUMNS} FROM {{table}} AS t ORDER BY md5(t.id), t.id LIMIT %b"
DELETE = "DELETE FROM {table} WHERE id = ANY (%b::text[])"
# Every change takes numbers of the sequence of `seq`, also if it only replaces or removes rows. A
# transaction that has taken them but is not yet over is told by its lock.
_SEQUENCE = """\
FROM pg_class AS t JOIN pg_depend AS d ON d.refobjid = t.oid AND d.deptype = 'i'
JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
WHERE t.oid = %s"""
STATE = f"""\
SELECT CASE WHEN has_sequence_privilege(s.oid, 'SELECT, USAGE')
    THEN coalesce(pg_sequence_last_value(s.oid), 0) END,
    EXISTS (
        SELECT FROM pg_locks AS l JOIN pg_database AS b ON b.oid = l.database
        WHERE b.datname = current_database() AND l.relation = t.oid AND l.granted
            AND l.mode = 'ShareRowExclusiveLock'
    )
{_SEQUENCE}"""
ADVANCE = f"""\
SELECT CASE WHEN has_sequence_privilege(s.oid, 'UPDATE, USAGE') THEN nextval(s.oid) END
{_SEQUENCE}"""
LOCK = "LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"
METADATA = "SELECT t.id, t.metadata FROM {table} AS t"
COUNT = "SELECT count(*) FROM {table} AS t WHERE {filter}"
