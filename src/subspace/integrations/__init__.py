"""An index where agents are built: LangChain (`.langchain`) and LlamaIndex (`.llama_index`)."""
