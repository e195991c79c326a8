"""What an index in PostgreSQL is asked: statements with {table} and {filter} to be put in."""

# Items of the highest priors that HNSW candidates are joined by.
_POPULAR = 10_000
# A graph of what is there already is built 8 times faster than one that grows row by row, so it is
# made at the end of the first upsert; and that may take its time.
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
# With priors, scores are joined, and the rows of the best only are looked up then: on a table that
# was not analysed yet, the planner would otherwise sort all rows with their vectors for the join.
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
COUNT = "SELECT count(*) FROM {table} AS t WHERE {filter}"
